package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// A contextFile is one context: a cluster, and how this user reaches it. It names
// the file of a token and never holds one.
type contextFile struct {
	name string

	API       []string `json:"api,omitempty"`
	Endpoints []string `json:"endpoints,omitempty"`
	Namespace string   `json:"namespace,omitempty"`
	TokenFile string   `json:"token_file,omitempty"`
	CACert    string   `json:"cacert,omitempty"`
	Cert      string   `json:"cert,omitempty"`
	Key       string   `json:"key,omitempty"`
}

const (
	contextSuffix = ".yaml"
	currentFile   = "context" // holds the name of the context in use
)

// contextName is what a context may be called: a file's name in every system.
var contextName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// configDir is where the user's own settings for conclave are.
func (a *app) configDir() (string, error) {
	if dir := a.env["XDG_CONFIG_HOME"]; filepath.IsAbs(dir) {
		return filepath.Join(dir, "conclave"), nil
	}
	switch {
	case runtime.GOOS == "windows" && a.env["AppData"] != "":
		return filepath.Join(a.env["AppData"], "conclave"), nil
	case a.env["HOME"] != "":
		return filepath.Join(a.env["HOME"], ".config", "conclave"), nil
	}
	return "", errors.New("no home directory is known")
}

func (a *app) contextPath(name string) (string, error) {
	if !contextName.MatchString(name) {
		return "", usage("invalid_name", "such as: prod", "context: %q is not a name of 1 to 64 letters, digits, dots, hyphens and underscores", name)
	}
	dir, err := a.configDir()
	if err != nil {
		return "", usage("invalid_context", "set HOME or XDG_CONFIG_HOME", "contexts: %v", err)
	}
	return filepath.Join(dir, "contexts", name+contextSuffix), nil
}

// currentContext returns the context in use, nil if there is none.
func (a *app) currentContext() (*contextFile, error) {
	name, from := a.currentName()
	if name == "" {
		return nil, nil //nolint:nilnil // to use none is what most users do, and no failure
	}
	c, err := a.readContext(name)
	if e, ok := asError(err); ok && e.Exit == ExitNotFound {
		e.Exit, e.Code, e.Reason = ExitUsage, "invalid_argument", "invalid_context"
		e.Message = from + ": " + e.Message
	}
	return c, err
}

// currentName returns which context is in use, and what says so.
func (a *app) currentName() (name, from string) {
	if name := a.env["CONCLAVE_CONTEXT"]; name != "" {
		return name, "CONCLAVE_CONTEXT"
	}
	dir, err := a.configDir()
	if err != nil {
		return "", ""
	}
	b, err := os.ReadFile(filepath.Join(dir, currentFile))
	if err != nil {
		return "", ""
	}
	return strings.TrimSpace(string(b)), "conclave context use"
}

// setCurrent makes a context the one in use; none is "".
func (a *app) setCurrent(name string) error {
	dir, err := a.configDir()
	if err != nil {
		return err
	}
	path := filepath.Join(dir, currentFile)
	if name == "" {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return writePrivate(path, []byte(name+"\n"))
}

// contextNames returns the names of all contexts, in order.
func (a *app) contextNames() ([]string, error) {
	dir, err := a.configDir()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(filepath.Join(dir, "contexts"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), contextSuffix); ok && contextName.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// readContext reads and checks one context. Of one that does not exist the error
// exits with 3 and suggests another.
func (a *app) readContext(name string) (*contextFile, error) {
	path, err := a.contextPath(name)
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		known, _ := a.contextNames()
		hint := didYouMean(name, known, "")
		if hint == "" {
			hint = "see conclave context ls"
		}
		return nil, &Error{Exit: ExitNotFound, Code: "not_found", Reason: "not_found", Hint: hint, cause: err,
			Message: fmt.Sprintf("there is no context %q", name)}
	}
	if err != nil {
		return nil, fmt.Errorf("context %q: %w", name, err)
	}
	c := &contextFile{name: name}
	if err := yaml.UnmarshalStrict(b, c); err != nil {
		return nil, usage("invalid_context", contextHint(b), "%s: %v", path, err)
	}
	if err := c.check(); err != nil {
		return nil, usage("invalid_context", "mend it, or replace it: conclave context add --replace", "%s: %v", path, err)
	}
	return c, nil
}

func (c *contextFile) check() error {
	switch {
	case len(c.API) > 0 && len(c.Endpoints) > 0:
		return errors.New("api and endpoints are both given")
	case len(c.API) == 0 && len(c.Endpoints) == 0:
		return errors.New("neither api nor endpoints is given")
	case len(c.Endpoints) > 0 && c.TokenFile != "":
		return errors.New("token_file is for a host API, and endpoints names etcd")
	case (c.Cert == "") != (c.Key == ""):
		return errors.New("cert and key go together")
	}
	if c.Namespace != "" {
		if err := keyspace.CheckNamespace("namespace", c.Namespace); err != nil {
			return err
		}
	}
	return errors.Join(checkAPI("api", c.API), checkEndpoints("endpoints", c.Endpoints))
}

func (a *app) writeContext(c *contextFile) error {
	path, err := a.contextPath(c.name)
	if err != nil {
		return err
	}
	b, err := yaml.Marshal(c)
	if err != nil {
		return err
	}
	return writePrivate(path, b)
}

// writePrivate writes a file that only its user can read, whole or not at all.
func writePrivate(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	// Without the sync a crash may leave the new name with nothing in it.
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// contextHint suggests the key that an unknown one was meant to be.
func contextHint(b []byte) string {
	known := []string{"api", "endpoints", "namespace", "token_file", "cacert", "cert", "key"}
	var keys map[string]json.RawMessage
	if yaml.Unmarshal(b, &keys) != nil {
		return ""
	}
	for key := range keys {
		if !slices.Contains(known, key) {
			return didYouMean(key, known, "")
		}
	}
	return ""
}
