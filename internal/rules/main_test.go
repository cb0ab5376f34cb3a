package rules

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "rewrite documentation snippets and golden files")

// root is the repository's folder, seen from this package's.
const root = "../.."

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// go list is asked once for each system, and the files are read once, for all
// tests; so their context is the process's.
var (
	packagesLinux   = listOnce("linux")
	packagesDarwin  = listOnce("darwin")
	packagesWindows = listOnce("windows")
	repository      = sync.OnceValues(func() ([]File, error) { return Files(context.Background(), root) })
)

func listOnce(goos string) func() ([]Package, error) {
	return sync.OnceValues(func() ([]Package, error) { return List(context.Background(), root, goos, "./...") })
}

// packages returns this module's packages as goos builds them.
func packages(t *testing.T, goos string) []Package {
	t.Helper()
	list, err := map[string]func() ([]Package, error){
		"linux": packagesLinux, "darwin": packagesDarwin, "windows": packagesWindows,
	}[goos]()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("go list names no package")
	}
	return list
}

// files returns this repository's files.
func files(t *testing.T) []File {
	t.Helper()
	list, err := repository()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("the repository has no file")
	}
	return list
}

func goFiles(t *testing.T, list []File) []GoFile {
	t.Helper()
	parsed, err := GoFiles(list)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// report fails the test once for each violation.
func report(t *testing.T, violations []string) {
	t.Helper()
	for _, v := range violations {
		t.Error(v)
	}
}

// write replaces a file of the repository; path is relative to its root.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(root, filepath.FromSlash(path)), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
