package scaffold

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// modulePath is the path of Conclave's module.
const modulePath = "github.com/conclavehq/conclave"

var versionPattern = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// module returns go.mod and, for a checkout, go.sum. A project on a checkout
// requires what the checkout requires, in the same versions and with its sums, so
// that it builds without asking for anything.
func (p *Project) module() ([]File, error) {
	if p.Checkout == "" {
		if !versionPattern.MatchString(p.Version) {
			return nil, invalid("replace", "is empty, and this conclave was not built from a published version: name a folder with a checkout of %s", modulePath)
		}
		return []File{{Path: "go.mod", Content: fmt.Appendf(nil, "module %s\n\ngo 1.26.0\n\nrequire %s %s\n", p.Module, modulePath, p.Version)}}, nil
	}
	dir, err := filepath.Abs(p.Checkout)
	if err != nil {
		return nil, invalid("replace", "%v", err)
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod")) //nolint:gosec // the operator names it
	if err != nil {
		return nil, invalid("replace", "%s holds no module: %v", p.Checkout, err)
	}
	rest, ok := strings.CutPrefix(string(mod), "module "+modulePath+"\n")
	if !ok {
		return nil, invalid("replace", "%s holds another module than %s", p.Checkout, modulePath)
	}
	sum, err := os.ReadFile(filepath.Join(dir, "go.sum")) //nolint:gosec // the operator names it
	if err != nil {
		return nil, invalid("replace", "%v", err)
	}
	text := fmt.Sprintf("module %s\n%s\nrequire %s v0.0.0\n\n// Until a version of it is published.\nreplace %s => %s\n",
		p.Module, rest, modulePath, modulePath, quoted(dir))
	return []File{{Path: "go.mod", Content: []byte(text)}, {Path: "go.sum", Content: sum}}, nil
}

// quoted is a path as go.mod takes it.
func quoted(path string) string {
	if strings.ContainsAny(path, " \t\"`'()[]{},\\") {
		return fmt.Sprintf("%q", path)
	}
	return path
}

// FindCheckout returns the folder with Conclave's module that a folder is in, or
// "".
func FindCheckout(dir string) string {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return ""
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod")) //nolint:gosec // a folder that the operator is in
		if err == nil && strings.HasPrefix(string(mod), "module "+modulePath+"\n") {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}
