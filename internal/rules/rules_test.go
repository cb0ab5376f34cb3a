package rules

import (
	"os"
	"path"
	"path/filepath"
	"testing"
)

func TestPackagesAreDocumented(t *testing.T) {
	for _, goos := range []string{"linux", "darwin", "windows"} {
		report(t, CheckPackageDocs(packages(t, goos)))
	}
}

func TestExportsAreDocumented(t *testing.T) { report(t, CheckExports(goFiles(t, files(t)))) }

func TestLibrariesHaveTheSameFiles(t *testing.T) { report(t, CheckLibraryFiles(files(t))) }

func TestLibrariesHaveTheSameHeadings(t *testing.T) { report(t, CheckHeadings(goFiles(t, files(t)))) }

func TestKeysAreJoinedInOnePlace(t *testing.T) { report(t, CheckKeys(goFiles(t, files(t)))) }

func TestFilesAreShort(t *testing.T) { report(t, CheckLength(goFiles(t, files(t)))) }

func TestNothingSleeps(t *testing.T) { report(t, CheckSleep(goFiles(t, files(t)))) }

func TestNothingRegistersItself(t *testing.T) { report(t, CheckInit(goFiles(t, files(t)))) }

func TestNothingNamesThisMachine(t *testing.T) { report(t, CheckMachine(files(t))) }

func TestLinksLeadSomewhere(t *testing.T) { report(t, CheckLinks(files(t))) }

func TestSnippetsAreCompiledCode(t *testing.T) {
	read := func(p string) ([]byte, error) { return os.ReadFile(filepath.Join(root, filepath.FromSlash(p))) }
	for _, page := range files(t) {
		if path.Ext(page.Path) != ".md" {
			continue
		}
		want, violations := Snippets(page, read)
		report(t, violations)
		if want == string(page.Text) {
			continue
		}
		if *update {
			write(t, page.Path, want)
			continue
		}
		t.Errorf("%s: a snippet differs from the compiled code that it names; to bring it up to date: go test ./internal/rules -update", page.Path)
	}
}

// TestExamplesAreOutside holds examples to what a user can do: a module whose
// path is not below this one cannot import internal/.
func TestExamplesAreOutside(t *testing.T) { report(t, CheckExampleModules(files(t))) }

// TestFootprint compares what each library brings with a reviewed list.
func TestFootprint(t *testing.T) {
	for _, library := range Libraries {
		if _, err := os.Stat(filepath.Join(root, library, "doc.go")); err != nil {
			continue
		}
		t.Run(library, func(t *testing.T) {
			all, err := List(t.Context(), root, "linux", "-deps", "./"+library, clientPackage)
			if err != nil {
				t.Fatal(err)
			}
			got := Golden(Footprint(Module+"/"+library, all))
			golden := "internal/rules/testdata/footprint_" + library + ".golden"
			if *update {
				write(t, golden, got)
				return
			}
			want, err := os.ReadFile(filepath.Join(root, golden))
			if err != nil {
				t.Fatalf("%v; to make it: go test ./internal/rules -update", err)
			}
			if got != string(want) {
				t.Errorf("users of %s compile, beyond etcd's client:\n%swant:\n%s"+
					"each package is their risk too; if it is worth it: go test ./internal/rules -update, and review the diff", library, got, want)
			}
		})
	}
}
