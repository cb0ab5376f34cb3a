package scaffold

import (
	"errors"
	"fmt"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The languages of projects.
const (
	Go     = "go"
	Python = "python"
)

// DefaultOwner is the owner of a project that names none.
const DefaultOwner = "example"

// ErrExists means that something stands where the project would.
var ErrExists = errors.New("exists already, and nothing is overwritten")

// A Project is what a new project is made of.
type Project struct {
	// Name is the recipe's: lower-case letters, digits and hyphens, beginning with
	// a letter, at most 63 in all.
	Name string
	// Lang is Go or Python.
	Lang string
	// Dir is the folder, which must not exist or be empty.
	Dir string
	// Owner begins the names of the types, so that they collide with nobody
	// else's: lower-case letters and digits, beginning with a letter, at most 63 in
	// all. Empty: DefaultOwner.
	Owner string
	// Module is the path of the Go module. Empty: example.com/NAME.
	Module string
	// Version is that of Conclave's module which a project in Go requires, such as
	// v1.2.0.
	Version string
	// Checkout is a folder with Conclave's module that a project in Go uses instead
	// of a published version. Empty: it uses Version.
	Checkout string
}

// An Error says that a project cannot be: the field that is wrong, and its
// limits.
type Error struct{ Field, Reason string }

// Error returns "<field>: <reason>".
func (e *Error) Error() string { return e.Field + ": " + e.Reason }

func invalid(field, format string, args ...any) error {
	return &Error{Field: field, Reason: fmt.Sprintf(format, args...)}
}

const maxName = 63

var (
	namePattern   = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)
	ownerPattern  = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	modulePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]*(/[A-Za-z0-9][A-Za-z0-9._~-]*)*$`)
)

// taken are names of recipes that every host has, or keeps for itself.
var taken = []string{"barrier", "config", "discovery", "election", "host", "lock", "plugin", "queue", "session"}

// owners are those whose types are somebody's already.
var owners = []string{"authpb", "conclave", "etcdserverpb", "google", "grpc", "membershippb", "mvccpb", "plugin", "versionpb"}

// check fills in what was left out.
func (p *Project) check() error {
	if p.Owner == "" {
		p.Owner = DefaultOwner
	}
	if p.Module == "" {
		p.Module = "example.com/" + p.Name
	}
	switch {
	case p.Name == "":
		return invalid("name", "is empty")
	case len(p.Name) > maxName:
		return invalid("name", "has %d characters, the limit is %d", len(p.Name), maxName)
	case !namePattern.MatchString(p.Name):
		return invalid("name", `must be lower-case letters, digits and "-", beginning with a letter`)
	case slices.Contains(taken, p.Name):
		return invalid("name", "%s is a recipe of every host; choose another", p.Name)
	case token.IsKeyword(p.pkg()) || p.pkg() == "main" || p.pkg() == "init":
		return invalid("name", "%s is a word of the language Go; choose another", p.Name)
	case p.Lang != Go && p.Lang != Python:
		return invalid("lang", "is %q, must be %s or %s", p.Lang, Go, Python)
	case len(p.Owner) > maxName || !ownerPattern.MatchString(p.Owner) || token.IsKeyword(p.Owner):
		return invalid("owner", "must be at most %d lower-case letters and digits, beginning with a letter", maxName)
	case slices.Contains(owners, p.Owner):
		return invalid("owner", "%s has types already; take a name of your own", p.Owner)
	case len(p.Module) > 200 || !modulePattern.MatchString(p.Module):
		return invalid("module", "must be a path such as example.com/%s, of at most 200 characters", p.Name)
	}
	return nil
}

// pkg is the name as a part of a package's name.
func (p *Project) pkg() string { return strings.ReplaceAll(p.Name, "-", "") }

// typ is the name as the beginning of a type's name.
func (p *Project) typ() string {
	var b strings.Builder
	for part := range strings.SplitSeq(p.Name, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// A File is one file of a project.
type File struct {
	Path    string // in the project's folder, with slashes
	Content []byte
	Program bool // may be executed
}

// Write writes the project and returns its files. The error is an [*Error] for
// what cannot be, and [ErrExists] if the folder exists and is not empty: then
// nothing has been written.
func (p Project) Write() ([]File, error) {
	files, err := p.Files()
	if err != nil {
		return nil, err
	}
	switch there, err := os.ReadDir(p.Dir); {
	case err == nil && len(there) > 0:
		return nil, fmt.Errorf("%s %w", p.Dir, ErrExists)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s %w: %w", p.Dir, ErrExists, err)
	}
	for _, f := range files {
		if err := f.write(p.Dir); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (f File) write(dir string) error {
	path := filepath.Join(dir, filepath.FromSlash(f.Path))
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	mode := fs.FileMode(0o666)
	if f.Program {
		mode = 0o777
	}
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // a path of the project's own
	if err != nil {
		return err
	}
	_, err = out.Write(f.Content)
	return errors.Join(err, out.Close())
}
