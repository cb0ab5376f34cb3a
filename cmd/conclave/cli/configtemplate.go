package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/template"
)

// templateFuncs are the functions of templates beside text/template's own. They
// read nothing but their arguments: no environment, no files, no network.
func templateFuncs() template.FuncMap {
	return template.FuncMap{
		"json":       parseJSON,
		"toJSON":     func(v any) (string, error) { return jsonText(v, "") },
		"prettyJSON": func(v any) (string, error) { return jsonText(v, "  ") },
		"quote":      strconv.Quote,
		"lower":      strings.ToLower,
		"upper":      strings.ToUpper,
		"trim":       strings.TrimSpace,
		"trimPrefix": func(prefix, s string) string { return strings.TrimPrefix(s, prefix) },
		"trimSuffix": func(suffix, s string) string { return strings.TrimSuffix(s, suffix) },
		"hasPrefix":  func(prefix, s string) bool { return strings.HasPrefix(s, prefix) },
		"hasSuffix":  func(suffix, s string) bool { return strings.HasSuffix(s, suffix) },
		"contains":   func(part, s string) bool { return strings.Contains(s, part) },
		"replace":    func(old, with, s string) string { return strings.ReplaceAll(s, old, with) },
		"split":      func(sep, s string) []string { return strings.Split(s, sep) },
		"lines":      func(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") },
		"join":       joined,
		"indent":     indented,
		"default":    defaulted,
		"int":        number,
		"add":        func(a, b any) (int64, error) { return calculated(a, b, func(a, b int64) int64 { return a + b }) },
		"sub":        func(a, b any) (int64, error) { return calculated(a, b, func(a, b int64) int64 { return a - b }) },
		"mul":        func(a, b any) (int64, error) { return calculated(a, b, func(a, b int64) int64 { return a * b }) },
		"base64":     func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"fromBase64": fromBase64,
		"sha256": func(s string) string {
			sum := sha256.Sum256([]byte(s))
			return hex.EncodeToString(sum[:])
		},
	}
}

// parseJSON makes whole numbers int64, so that they print and compare as such.
func parseJSON(text string) (any, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("not JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not JSON: something follows the value")
	}
	return numbers(v), nil
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	case []any:
		for i := range v {
			v[i] = numbers(v[i])
		}
	}
	return v
}

func jsonText(v any, indent string) (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return "", err
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// joined joins the texts of a list, of JSON or of split.
func joined(sep string, list any) (string, error) {
	var parts []string
	switch list := list.(type) {
	case []string:
		parts = list
	case []any:
		for _, v := range list {
			parts = append(parts, fmt.Sprint(v))
		}
	default:
		return "", fmt.Errorf("a %T is not a list", list)
	}
	return strings.Join(parts, sep), nil
}

func indented(n int, s string) (string, error) {
	if n < 0 || n > 100 {
		return "", fmt.Errorf("%d is outside 0 to 100", n)
	}
	return strings.ReplaceAll(s, "\n", "\n"+strings.Repeat(" ", n)), nil
}

// defaulted is otherwise in place of what a template would call empty.
func defaulted(otherwise, v any) any {
	if truth, ok := template.IsTrue(v); ok && truth {
		return v
	}
	return otherwise
}

// number makes a whole number of JSON's and of text.
func number(v any) (int64, error) {
	switch v := v.(type) {
	case int:
		return int64(v), nil
	case int64:
		return v, nil
	case float64:
		return int64(v), nil
	case string:
		return strconv.ParseInt(strings.TrimSpace(v), 10, 64)
	}
	return 0, fmt.Errorf("a %T is not a number", v)
}

func calculated(a, b any, op func(a, b int64) int64) (int64, error) {
	x, err := number(a)
	y, err2 := number(b)
	return op(x, y), errors.Join(err, err2)
}

func fromBase64(s string) (string, error) {
	data, err := base64.StdEncoding.DecodeString(s)
	return string(data), err
}
