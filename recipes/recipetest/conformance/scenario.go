package conformance

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// A Scenario is what the suite has to know of a recipe to check what callers own.
// Calls that are left out leave out the checks that need them.
//
// In requests "$name" stands for a name that no other run of the scenario has, and
// "$take.a.b" for what Take answered in its field a.b; elements of a list are
// counted from 0. The session is put in by the suite, into the field that the
// method's options name.
type Scenario struct {
	// Name tells scenarios of one recipe apart.
	Name string `json:"name"`
	// Setup is called first, with the session that takes.
	Setup []Call `json:"setup,omitempty"`
	// Take takes something for a session, and answers at once.
	Take *Call `json:"take,omitempty"`
	// Show shows who has it.
	Show *Call `json:"show,omitempty"`
	// Wait is called by another session, and waits until Free. Whatever it puts
	// in line is attached to its session's lease.
	Wait *Call `json:"wait,omitempty"`
	// Transient says that what Wait puts in line means nothing once the call has
	// ended, such as an idle worker's mark: an orderly stop may take it away.
	Transient bool `json:"transient,omitempty"`
	// Free ends what Wait waits for, with the session that took.
	Free *Call `json:"free,omitempty"`
}

// A Call is one call of the recipe. Of a method that streams its answers the first
// one counts.
type Call struct {
	// Method is package.Service/Method.
	Method string `json:"method"`
	// Request is the request in JSON.
	Request json.RawMessage `json:"request,omitempty"`
	// Same are the fields of the answer that do not change as long as nobody
	// takes or frees anything, such as "token" or "holders.0.owner". Empty: all.
	Same []string `json:"same,omitempty"`
}

// NewCall returns a call. The request is an object in JSON; the error of one that
// is not appears when it is called. same is [Call.Same].
func NewCall(method, request string, same ...string) *Call {
	return &Call{Method: method, Request: json.RawMessage(request), Same: same}
}

// A File is what conclave plugin test reads beside the program: YAML or JSON.
type File struct {
	// Config is the configuration with which the recipe runs.
	Config json.RawMessage `json:"config,omitempty"`
	// Scenarios are those of the recipe.
	Scenarios []Scenario `json:"scenarios,omitempty"`
}

// ParseFile reads a file strictly: a key that it does not know is an error.
func ParseFile(text []byte) (File, error) {
	var f File
	if err := yaml.UnmarshalStrict(text, &f); err != nil {
		return File{}, fmt.Errorf("scenarios: %w", err)
	}
	return f, nil
}

// vars are what a request may refer to.
type vars struct {
	name string
	take any // what Take answered, decoded
}

// request returns the request of a call with everything put in.
func (v vars) request(c *Call) (map[string]any, error) {
	m := map[string]any{}
	if len(c.Request) > 0 {
		if err := json.Unmarshal(c.Request, &m); err != nil {
			return nil, fmt.Errorf("%s: its request is no object in JSON: %w", c.Method, err)
		}
	}
	filled, err := v.fill(m)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Method, err)
	}
	return filled.(map[string]any), nil // which fill keeps
}

// fill replaces references in a value as JSON decodes it.
func (v vars) fill(value any) (any, error) {
	switch value := value.(type) {
	case string:
		if path, ok := strings.CutPrefix(value, "$take."); ok {
			return field(v.take, path)
		}
		return strings.ReplaceAll(value, "$name", v.name), nil
	case map[string]any:
		m := make(map[string]any, len(value))
		for k, one := range value {
			var err error
			if m[k], err = v.fill(one); err != nil {
				return nil, err
			}
		}
		return m, nil
	case []any:
		list := make([]any, len(value))
		for i, one := range value {
			var err error
			if list[i], err = v.fill(one); err != nil {
				return nil, err
			}
		}
		return list, nil
	}
	return value, nil
}

// field finds a path in a value as JSON decodes it.
func field(value any, path string) (any, error) {
	for part := range strings.SplitSeq(path, ".") {
		switch at := value.(type) {
		case map[string]any:
			value = at[part]
		case []any:
			i, err := strconv.Atoi(part)
			if err != nil || i < 0 || i >= len(at) {
				return nil, fmt.Errorf("the answer has no %s", path)
			}
			value = at[i]
		default:
			return nil, fmt.Errorf("the answer has no %s", path)
		}
	}
	if value == nil {
		return nil, fmt.Errorf("the answer has no %s", path)
	}
	return value, nil
}

// same returns an error that shows the difference unless two answers to a call
// agree in what does not change.
func (c *Call) same(before, after any) error {
	if len(c.Same) == 0 {
		if !reflect.DeepEqual(before, after) {
			return fmt.Errorf("%s answered %s, before that %s", c.Method, text(after), text(before))
		}
		return nil
	}
	for _, path := range c.Same {
		was, err := field(before, path)
		if err != nil {
			return fmt.Errorf("%s: %w", c.Method, err)
		}
		is, err := field(after, path)
		if err != nil {
			return fmt.Errorf("%s: %w, which was %s", c.Method, err, text(was))
		}
		if !reflect.DeepEqual(was, is) {
			return fmt.Errorf("%s answered %s = %s, before that %s", c.Method, path, text(is), text(was))
		}
	}
	return nil
}

func text(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
