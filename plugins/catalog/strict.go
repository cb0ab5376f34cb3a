package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/conclavehq/conclave/internal/suggest"
)

// decode reads YAML or JSON into what v points to. Unknown keys, keys that are
// given twice and values of another type are errors that name the key by its path.
func decode(b []byte, v any) error {
	j, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		return errors.New(oneLine(strings.TrimPrefix(err.Error(), "error converting YAML to JSON: ")))
	}
	var tree any
	if err := json.Unmarshal(j, &tree); err != nil {
		return err
	}
	t := reflect.TypeOf(v).Elem()
	if tree == nil {
		return errors.New("the file is empty")
	}
	if _, ok := tree.(map[string]any); !ok {
		return errors.New("the file is not a group of keys")
	}
	if err := checkKeys("", tree, t); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(j))
	if err := d.Decode(v); err != nil {
		return explain(err)
	}
	return nil
}

// checkKeys returns an error for a key that the type does not know, and for a value
// that its own parser refuses: encoding/json would not say which key it has.
func checkKeys(path string, tree any, t reflect.Type) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if own, ok := reflect.TypeAssert[json.Unmarshaler](reflect.New(t)); ok {
		b, err := json.Marshal(tree)
		if err == nil {
			err = own.UnmarshalJSON(b)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		return nil
	}
	switch node := tree.(type) {
	case map[string]any:
		for _, key := range slices.Sorted(maps.Keys(node)) {
			var inner reflect.Type
			switch t.Kind() {
			case reflect.Struct:
				f, known := fieldOf(t, key)
				if !known {
					return unknownKey(join(path, key), key, t)
				}
				inner = f
			case reflect.Map:
				inner = t.Elem()
			default:
				return nil // the decoder names the type
			}
			if err := checkKeys(join(path, key), node[key], inner); err != nil {
				return err
			}
		}
	case []any:
		if t.Kind() != reflect.Slice {
			return nil
		}
		for i, value := range node {
			if err := checkKeys(fmt.Sprintf("%s[%d]", path, i), value, t.Elem()); err != nil {
				return err
			}
		}
	}
	return nil
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func fieldOf(t reflect.Type, key string) (reflect.Type, bool) {
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == key && name != "-" {
			return f.Type, true
		}
	}
	return nil, false
}

func unknownKey(path, key string, t reflect.Type) error {
	var known []string
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "-" {
			known = append(known, name)
		}
	}
	if meant := suggest.Closest(key, known); meant != "" {
		return fmt.Errorf("%s: unknown key; did you mean %q?", path, meant)
	}
	return fmt.Errorf("%s: unknown key; there are: %s", path, strings.Join(known, ", "))
}

// explain says in the file's words what encoding/json found.
func explain(err error) error {
	t, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return err
	}
	wanted := "a group of keys"
	switch t.Type.Kind() {
	case reflect.String:
		wanted = "text"
	case reflect.Int, reflect.Int64:
		wanted = "a whole number"
	case reflect.Float64:
		wanted = "a number"
	case reflect.Bool:
		wanted = "true or false"
	case reflect.Slice:
		wanted = "a list"
	default:
	}
	return fmt.Errorf("%s: %s is not %s", t.Field, t.Value, wanted)
}

// oneLine keeps a message of several lines to one.
func oneLine(text string) string {
	return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), ":;", ":")
}
