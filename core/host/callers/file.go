package callers

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/tlsfiles"
)

// maxName is the longest name, in bytes.
const maxName = 255

// An Entry is one of the file.
type Entry struct {
	// Name is what lists and histories call the caller. Several entries may share one.
	Name string `json:"name"`
	// TokenSHA256 is the SHA-256 of the caller's token, in hexadecimal.
	TokenSHA256 string `json:"token_sha256,omitempty"`
	// Certificate is the common name in the caller's certificate.
	Certificate string `json:"certificate,omitempty"`
	// Anonymous is for whoever shows neither.
	Anonymous bool `json:"anonymous,omitempty"`
	// May is "read", "write" or "admin", each with what comes before it.
	May string `json:"may"`
}

// levels are the permissions in their order.
var levels = []string{"read", "write", "admin"} //nolint:gochecknoglobals // a constant

func level(p recipev1.Permission) int {
	switch p {
	case recipev1.Permission_PERMISSION_PUBLIC:
		return -1
	case recipev1.Permission_PERMISSION_READ:
		return 0
	case recipev1.Permission_PERMISSION_WRITE:
		return 1
	}
	return len(levels) - 1
}

// A caller is who an entry names.
type caller struct {
	name string
	may  int // of levels
}

// A table finds callers by what they show.
type table struct {
	tokens, certificates map[string]caller
	anonymous            *caller
}

// load reads a file. The error names the entry and the field.
func load(file string) (*table, error) {
	if err := tlsfiles.Private(file); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return parse(file, b)
}

func parse(file string, text []byte) (*table, error) {
	j, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var doc struct {
		Callers []Entry `json:"callers"`
	}
	d := json.NewDecoder(bytes.NewReader(j))
	d.DisallowUnknownFields()
	if err := d.Decode(&doc); err != nil {
		return nil, fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "json: "))
	}
	if len(doc.Callers) == 0 {
		// An empty file, such as one that is being written, must not let nobody in.
		return nil, fmt.Errorf("%s: callers: is empty", file)
	}
	t := &table{tokens: map[string]caller{}, certificates: map[string]caller{}}
	for i, e := range doc.Callers {
		if err := t.add(e); err != nil {
			return nil, fmt.Errorf("%s: callers[%d]: %w", file, i, err)
		}
	}
	return t, nil
}

func (t *table) add(e Entry) error {
	if err := keyspace.CheckText("name", e.Name, maxName); err != nil {
		return err
	}
	if e.Name == "" {
		return errors.New("name: is empty")
	}
	c := caller{name: e.Name, may: slices.Index(levels, e.May)}
	if c.may < 0 {
		return fmt.Errorf("may: %q is not one of %s", e.May, strings.Join(levels, ", "))
	}
	shown := 0
	for _, given := range []bool{e.TokenSHA256 != "", e.Certificate != "", e.Anonymous} {
		if given {
			shown++
		}
	}
	if shown != 1 {
		return errors.New("has one of token_sha256, certificate and anonymous")
	}
	switch {
	case e.Anonymous && t.anonymous != nil:
		return errors.New("anonymous: another entry is so already")
	case e.Anonymous:
		t.anonymous = &c
		return nil
	case e.Certificate != "":
		return put(t.certificates, "certificate", e.Certificate, c)
	}
	if sum, err := hex.DecodeString(e.TokenSHA256); err != nil || len(sum) != 32 {
		return errors.New("token_sha256: is not 64 hexadecimal digits")
	}
	return put(t.tokens, "token_sha256", strings.ToLower(e.TokenSHA256), c)
}

func put(m map[string]caller, field, key string, c caller) error {
	if _, there := m[key]; there {
		return fmt.Errorf("%s: stands in another entry already", field)
	}
	m[key] = c
	return nil
}
