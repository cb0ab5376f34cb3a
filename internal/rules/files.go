package rules

import (
	"bytes"
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A File is one file of the repository. Path is relative to its root, with
// slashes.
type File struct {
	Path string
	Text []byte
}

// Files reads what is committed, or would be, below root: what git knows and
// does not ignore, or, where root is no git checkout, everything but hidden
// folders. Binary files are left out.
func Files(ctx context.Context, root string) ([]File, error) {
	paths, err := gitPaths(ctx, root)
	if err != nil {
		paths, err = walkPaths(root)
	}
	if err != nil {
		return nil, err
	}
	var files []File
	for _, p := range paths {
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(p)))
		if os.IsNotExist(err) {
			continue // git still lists a file that was deleted and not yet committed
		}
		if err != nil {
			return nil, fmt.Errorf("read repository: %w", err)
		}
		if !bytes.Contains(text, []byte{0}) {
			files = append(files, File{Path: p, Text: text})
		}
	}
	return files, nil
}

func gitPaths(ctx context.Context, root string) ([]string, error) {
	cmd := exec.CommandContext(ctx, "git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	paths := strings.Split(strings.Trim(string(out), "\x00"), "\x00")
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

func walkPaths(root string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if p != root && strings.HasPrefix(d.Name(), ".") && d.Name() != ".ci" {
				return filepath.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(root, p)
		paths = append(paths, filepath.ToSlash(rel))
		return err
	})
	return paths, err
}

// A GoFile is a parsed Go file that people wrote: not generated, not a fixture
// below a testdata folder.
type GoFile struct {
	File
	Syntax *ast.File
	Set    *token.FileSet
}

// Dir returns the folder of the file, "." for the root.
func (f GoFile) Dir() string { return path.Dir(f.Path) }

// Test reports whether only tests build the file.
func (f GoFile) Test() bool { return strings.HasSuffix(f.Path, "_test.go") }

// Line returns "path:line" of a position.
func (f GoFile) Line(pos token.Pos) string {
	return fmt.Sprintf("%s:%d", f.Path, f.Set.Position(pos).Line)
}

// GoFiles parses the Go files among files.
func GoFiles(files []File) ([]GoFile, error) {
	var parsed []GoFile
	for _, f := range files {
		if path.Ext(f.Path) != ".go" || slices.Contains(strings.Split(f.Path, "/"), "testdata") {
			continue
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, f.Path, f.Text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse repository: %w", err)
		}
		if !ast.IsGenerated(syntax) {
			parsed = append(parsed, GoFile{File: f, Syntax: syntax, Set: set})
		}
	}
	return parsed, nil
}
