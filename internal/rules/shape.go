package rules

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MaxLines is the length of the longest file, in lines.
const MaxLines = 450

// Libraries are the folders of the libraries, whether they exist yet or not.
var Libraries = []string{"lock", "election", "barrier", "queue", "discovery", "config"}

// LibraryFiles are the files that every library has.
var LibraryFiles = []string{
	"doc.go", "options.go", "errors.go", "keys.go",
	"example_test.go", "fault_test.go", "race_test.go", "fuzz_test.go", "bench_test.go", "main_test.go",
}

// CheckLibraryFiles reports the files that a library lacks. A library exists
// when its folder has a Go file.
func CheckLibraryFiles(files []File) []string {
	have := map[string]bool{}
	exists := map[string]bool{}
	for _, f := range files {
		have[f.Path] = true
		if path.Ext(f.Path) == ".go" {
			exists[path.Dir(f.Path)] = true
		}
	}
	var violations []string
	for _, library := range Libraries {
		for _, name := range LibraryFiles {
			if p := library + "/" + name; exists[library] && !have[p] {
				violations = append(violations, p+" is missing: all libraries have the same files, so that who knows one knows all")
			}
		}
	}
	return violations
}

// Headings are what every library's package comment speaks of, in this order.
var Headings = []string{"Guarantees", "Failure", "Keys", "Fencing", "Comparison"}

// CheckHeadings reports libraries whose doc.go has other headings, or has them
// in another order.
func CheckHeadings(files []GoFile) []string {
	var violations []string
	for _, f := range files {
		if path.Base(f.Path) != "doc.go" || !slices.Contains(Libraries, f.Dir()) {
			continue
		}
		var got []string
		for line := range strings.Lines(f.Syntax.Doc.Text()) {
			if h, ok := strings.CutPrefix(line, "# "); ok {
				got = append(got, strings.TrimSpace(h))
			}
		}
		if !slices.Equal(got, Headings) {
			violations = append(violations, fmt.Sprintf("%s has the headings %q, want %q: users compare the libraries by them", f.Path, got, Headings))
		}
	}
	return violations
}

// CheckLength reports Go files over MaxLines lines.
func CheckLength(files []GoFile) []string {
	var violations []string
	for _, f := range files {
		if n := bytes.Count(f.Text, []byte("\n")); n > MaxLines {
			violations = append(violations, fmt.Sprintf("%s has %d lines, over %d: it is two things", f.Path, n, MaxLines))
		}
	}
	return violations
}

// CheckSleep reports uses of time.Sleep. Inside a call of synctest.Test it is
// free: there it moves a clock of the test's own, and takes no time.
func CheckSleep(files []GoFile) []string {
	var violations []string
	for _, f := range files {
		clock, bubble := importName(f.Syntax, "time"), importName(f.Syntax, "testing/synctest")
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && selects(call.Fun, bubble, "Test") {
				return false
			}
			if e, ok := n.(ast.Expr); ok && selects(e, clock, "Sleep") {
				violations = append(violations, f.Line(e.Pos())+
					": time.Sleep waits for nothing in particular: wait for the event or the state")
			}
			return true
		})
	}
	return violations
}

// selects reports whether e is pkg.name, where pkg is the name of an import.
func selects(e ast.Expr, pkg, name string) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != name {
		return false
	}
	id, ok := sel.X.(*ast.Ident)
	return ok && pkg != "" && id.Name == pkg
}

// importName returns the name under which a file imports a package, "" if it
// does not.
func importName(f *ast.File, importPath string) string {
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil || p != importPath {
			continue
		}
		if i.Name != nil {
			return i.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

// CheckInit reports init functions of packages that others can import.
func CheckInit(files []GoFile) []string {
	var violations []string
	for _, f := range files {
		for _, d := range f.Syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				violations = append(violations, f.Line(fn.Pos())+
					": init registers behind the reader's back: pass the value to who needs it")
			}
		}
	}
	return violations
}

// CheckKeys reports string literals that begin as Conclave's keys do, outside
// internal/keyspace and tests.
func CheckKeys(files []GoFile) []string {
	var violations []string
	for _, f := range files {
		if f.Test() || f.Dir() == "internal/keyspace" {
			continue
		}
		ast.Inspect(f.Syntax, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if text, err := strconv.Unquote(lit.Value); err == nil && strings.HasPrefix(text, keyspaceRoot) {
				violations = append(violations, f.Line(lit.Pos())+
					": a key put together by hand: only internal/keyspace joins keys, so that no name reaches into another's")
			}
			return true
		})
	}
	return violations
}

// The patterns are put together here, so that this file does not match itself.
var machine = regexp.MustCompile(`(^|[^\w.~/-])/(` + strings.Join([]string{"root", "work", `home/\w+`, `Users/\w+`}, "|") + `)/` +
	`|` + strings.Join([]string{"proxy.golang" + `\.org`, "registry.npmjs" + `\.org`, "deb.debian" + `\.org`, "files.pythonhosted" + `\.org`}, "|"))

// CheckMachine reports text that names a path or a package registry of the
// machine on which it was written.
func CheckMachine(files []File) []string {
	var violations []string
	for _, f := range files {
		for i, line := range bytes.Split(f.Text, []byte("\n")) {
			if m := machine.Find(line); m != nil {
				violations = append(violations, fmt.Sprintf("%s:%d: %q is true on one machine only", f.Path, i+1, bytes.TrimSpace(m)))
			}
		}
	}
	return violations
}

// keyspaceRoot is spelled so that this file does not match itself.
const keyspaceRoot = "/" + "conclave/"

var modulePath = regexp.MustCompile(`(?m)^module (\S+)$`)

// CheckExampleModules reports modules below examples/ whose path is inside this
// module's, and Go files there that belong to no module of their own.
func CheckExampleModules(files []File) []string {
	own := map[string]bool{}
	var violations []string
	for _, f := range files {
		if !strings.HasPrefix(f.Path, "examples/") || path.Base(f.Path) != "go.mod" {
			continue
		}
		own[path.Dir(f.Path)] = true
		m := modulePath.FindSubmatch(f.Text)
		if len(m) < 2 || !strings.HasPrefix(string(m[1]), "example.com/") {
			violations = append(violations, f.Path+": an example's module is named example.com/…, so that internal/ is closed to it as it is to users")
		}
	}
	for _, f := range files {
		if !strings.HasPrefix(f.Path, "examples/") || path.Ext(f.Path) != ".go" {
			continue
		}
		inside := false
		for dir := path.Dir(f.Path); dir != "." && !inside; dir = path.Dir(dir) {
			inside = own[dir]
		}
		if !inside {
			violations = append(violations, f.Path+": belongs to no module of its own, so it could import internal/")
		}
	}
	return violations
}
