package host

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/internal/suggest"
)

// Load reads a configuration file, in YAML or JSON. An unknown key is an error
// that is [ErrConfig] and suggests what was meant. A configuration file of
// upstream's etcd is taken as the Etcd.ConfigFile of a host that has no other.
func Load(file string) (Config, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("configuration: %w", err)
	}
	if embedded.IsFile(b) {
		return Config{Etcd: Etcd{ConfigFile: file}}, nil
	}
	c, err := Parse(b)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}

// Parse reads a configuration from YAML or JSON, as [Load] does.
func Parse(b []byte) (Config, error) {
	var c Config
	if len(bytes.TrimSpace(b)) == 0 {
		return c, nil
	}
	j, err := yaml.YAMLToJSONStrict(b)
	if err != nil {
		return c, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	d := json.NewDecoder(bytes.NewReader(j))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrConfig, explain(err))
	}
	return c, nil
}

var unknownField = regexp.MustCompile(`unknown field "([^"]*)"`)

// explain says in the file's words what encoding/json found.
func explain(err error) error {
	if m := unknownField.FindStringSubmatch(err.Error()); m != nil {
		if meant := suggest.Closest(m[1], keysOf(reflect.TypeFor[Config]())); meant != "" {
			return fmt.Errorf("unknown key %q; did you mean %q?", m[1], meant)
		}
		return fmt.Errorf("unknown key %q", m[1])
	}
	if t, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		field := t.Field
		if field == "" {
			field = "the file"
		}
		return fmt.Errorf("%s: %s is not %s", field, t.Value, wanted(t.Type))
	}
	return err
}

func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "a list"
	default:
		return "a group of keys"
	}
}

// keysOf returns every key that a configuration file knows.
func keysOf(t reflect.Type) []string {
	var keys []string
	switch t.Kind() {
	case reflect.Struct:
		for f := range t.Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name != "" && name != "-" {
				keys = append(append(keys, name), keysOf(f.Type)...)
			}
		}
	case reflect.Map, reflect.Slice:
		return keysOf(t.Elem())
	default:
	}
	return keys
}
