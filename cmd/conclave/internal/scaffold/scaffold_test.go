package scaffold_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/cmd/conclave/internal/scaffold"
	"github.com/conclavehq/conclave/plugins/catalog"
)

// A project in Go builds, and passes its tests, as it is.
func TestGoProject(t *testing.T) {
	dir := write(t, scaffold.Project{Name: "seat-map", Lang: scaffold.Go, Owner: "acme"})
	output(t, dir, "go", "build", ".")
	output(t, dir, "go", "vet", "./...")
	output(t, dir, "go", "test", "./...")
	said := output(t, dir, "./seat-map", "--describe")
	for _, want := range []string{`"seat-map"`, "acme.seatmap.v1.SeatMapService", `"0.1.0"`} {
		if !strings.Contains(said, want) {
			t.Errorf("--describe does not say %s:\n%s", want, said)
		}
	}
	if n := handWritten(t, dir); n > 60 {
		t.Errorf("%d lines of Go are written by hand", n)
	}
}

// handWritten counts the lines of the recipe's Go that are neither empty nor
// comments. Its test is not counted.
func handWritten(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	return len(regexp.MustCompile(`(?m)^\s*[^\s/]`).FindAll(text, -1))
}

// Manifests are what a host takes.
func TestManifests(t *testing.T) {
	for _, lang := range []string{scaffold.Go, scaffold.Python} {
		dir := write(t, scaffold.Project{Name: "seat-map", Lang: lang})
		text, err := os.ReadFile(filepath.Join(dir, "plugin.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		m, err := catalog.ParseManifest(text)
		if err != nil {
			t.Errorf("%s: %v", lang, err)
			continue
		}
		if m.Name != "seat-map" || m.Language != lang || m.HostSocket != (lang == scaffold.Python) {
			t.Errorf("%s: %+v", lang, m)
		}
	}
}

// Nothing that stands is touched.
func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "notes"), []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := scaffold.Project{Name: "mine", Lang: scaffold.Go, Dir: dir, Checkout: repository}
	if _, err := p.Write(); !errors.Is(err, scaffold.ErrExists) {
		t.Errorf("a folder with a file: %v", err)
	}
	p.Dir = filepath.Join(dir, "notes")
	if _, err := p.Write(); !errors.Is(err, scaffold.ErrExists) {
		t.Errorf("a file: %v", err)
	}
	if there, err := os.ReadDir(dir); err != nil || len(there) != 1 {
		t.Errorf("%v, %v", there, err)
	}
}

func TestWhatCannotBe(t *testing.T) {
	good := scaffold.Project{Name: "good", Lang: scaffold.Go, Checkout: repository, Dir: t.TempDir()}
	for want, change := range map[string]func(*scaffold.Project){
		"name: is empty": func(p *scaffold.Project) { p.Name = "" },
		`name: must be lower-case letters, digits and "-", beginning with a letter`: func(p *scaffold.Project) { p.Name = "Good" },
		"name: has 64 characters, the limit is 63":                                  func(p *scaffold.Project) { p.Name = strings.Repeat("a", 64) },
		"name: lock is a recipe of every host; choose another":                      func(p *scaffold.Project) { p.Name = "lock" },
		"name: fu-nc is a word of the language Go; choose another":                  func(p *scaffold.Project) { p.Name = "fu-nc" },
		`lang: is "rust", must be go or python`:                                     func(p *scaffold.Project) { p.Lang = "rust" },
		"owner: must be at most 63 lower-case letters and digits":                   func(p *scaffold.Project) { p.Owner = "../x" },
		"owner: google has types already":                                           func(p *scaffold.Project) { p.Owner = "google" },
		"module: must be a path such as example.com/good":                           func(p *scaffold.Project) { p.Module = "a b" },
		"replace: is empty, and this conclave was not built from a published":       func(p *scaffold.Project) { p.Checkout = "" },
		"holds another module than github.com/conclavehq/conclave":                  func(p *scaffold.Project) { p.Checkout = repository + "/examples" },
		"holds no module": func(p *scaffold.Project) { p.Checkout = "templates" },
	} {
		p := good
		change(&p)
		var e *scaffold.Error
		if _, err := p.Write(); !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// On a published version a project requires that.
func TestPublishedVersion(t *testing.T) {
	files, err := scaffold.Project{Name: "good", Lang: scaffold.Go, Version: "v1.2.0"}.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path == "go.mod" && !strings.Contains(string(f.Content), "require github.com/conclavehq/conclave v1.2.0\n") {
			t.Errorf("%s", f.Content)
		}
	}
}

func TestFindCheckout(t *testing.T) {
	want, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	if got := scaffold.FindCheckout("."); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got := scaffold.FindCheckout(t.TempDir()); got != "" {
		t.Errorf("%q", got)
	}
}

// The options that projects are compiled against are those of the API.
func TestOptionsAreTheAPIs(t *testing.T) {
	ours, err := os.ReadFile("templates/common/options.proto")
	if err != nil {
		t.Fatal(err)
	}
	api, err := os.ReadFile(repository + "/api/conclave/recipe/v1/options.proto")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours, api) {
		t.Error("templates/common/options.proto is to be a copy of api/conclave/recipe/v1/options.proto")
	}
}

// The example in Python stands on what projects in Python get.
func TestTheExampleIsUpToDate(t *testing.T) {
	files, err := scaffold.Project{Name: "good", Lang: scaffold.Python}.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Path != "src/conclave_plugin.py" && f.Path != "src/protocol.binpb" {
			continue
		}
		path := filepath.Join(repository, "examples", "plugins", "ratelimit", "python", filepath.FromSlash(f.Path))
		if *update {
			save(t, path, f.Content)
		}
		there, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(there, f.Content) {
			t.Errorf("examples/plugins/ratelimit/python/%s is to be a copy of what conclave plugin new --lang python writes: go test ./cmd/conclave/internal/scaffold -run Example -update", f.Path)
		}
	}
}

// The example in Python was begun with the scaffold, and goes on with its support.
func TestTheExamplesSupportIsTheScaffolds(t *testing.T) {
	ours, err := os.ReadFile(filepath.Join("templates", "python", "conclave_plugin.py"))
	if err != nil {
		t.Fatal(err)
	}
	its, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "examples", "plugins", "ratelimit", "python", "src", "conclave_plugin.py"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(ours, its) {
		t.Error("examples/plugins/ratelimit/python/src/conclave_plugin.py differs from the scaffold's: copy it")
	}
}
