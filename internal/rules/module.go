package rules

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"strings"
)

// Module is the path of the module that the rules are about.
const Module = "github.com/conclavehq/conclave"

// Package is what go list says of one package, as far as the rules ask.
type Package struct {
	ImportPath string
	Name       string
	Doc        string   // the first sentence of the package comment
	Standard   bool     // part of the standard library
	GoFiles    []string // files that are built, tests not among them
	Imports    []string // direct imports of GoFiles
	Deps       []string // all packages that GoFiles need, however far
	Error      *struct{ Err string }
}

// Rel returns the package's path inside the module, "." for the root, and
// whether it belongs to the module at all.
func (p Package) Rel() (string, bool) { return relative(p.ImportPath) }

func relative(importPath string) (string, bool) {
	if importPath == Module {
		return ".", true
	}
	return strings.CutPrefix(importPath, Module+"/")
}

// matches reports whether importPath is named by pattern: a path, or a path
// and "/..." for it and everything below. A pattern that begins with "./" is
// inside the module.
func matches(pattern, importPath string) bool {
	if rest, ok := strings.CutPrefix(pattern, "./"); ok {
		pattern = path.Join(Module, rest)
	}
	base, below := strings.CutSuffix(pattern, "/...")
	if importPath == base {
		return true
	}
	return below && strings.HasPrefix(importPath, base+"/")
}

func matchesAny(patterns []string, importPath string) bool {
	for _, p := range patterns {
		if matches(p, importPath) {
			return true
		}
	}
	return false
}

// List asks go list, in dir, for the packages that patterns name. With goos
// not empty it asks for the files that this system builds. A package that does
// not compile is listed as far as it can be read.
func List(ctx context.Context, dir, goos string, patterns ...string) ([]Package, error) {
	args := append([]string{"list", "-e", "-json=ImportPath,Name,Doc,Standard,GoFiles,Imports,Deps,Error"}, patterns...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	if goos != "" {
		// Without cgo the answer is the same on every machine.
		cmd.Env = append(cmd.Env, "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0")
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %s: %w: %s", strings.Join(patterns, " "), err, stderr.String())
	}
	return decodePackages(bytes.NewReader(out))
}

func decodePackages(r io.Reader) ([]Package, error) {
	var packages []Package
	for dec := json.NewDecoder(r); ; {
		var p Package
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return packages, nil
		case err != nil:
			return nil, fmt.Errorf("output of go list: %w", err)
		}
		packages = append(packages, p)
	}
}
