package catalog

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSeal(t *testing.T) {
	k, err := NewSecretKey()
	must(t, err)
	f := newFolder(t, "jobs", "1.2.0")
	edit(t, f.path(ManifestName), "  any: {file: jobs}", "  any: {file: jobs}\n  plan9/mips: {file: jobs}")
	before := f.read(ManifestName)
	to := filepath.Join(t.TempDir(), "dist", "jobs")
	if _, err := Seal(f.dir, to, &k); err != nil {
		t.Fatal(err)
	}
	if f.read(ManifestName) != before {
		t.Error("the author's manifest was changed")
	}
	c, _ := newCatalog(t, Config{Keys: []string{k.Public().String()}})
	if p := add(t, c, folder{t, to}); p.Pin.Key != k.Public().ID() || p.Manifest.Binaries["plan9/mips"].SHA256 != string(p.Pin.SHA256) {
		t.Errorf("%+v", p)
	}
	if _, err := Seal(f.dir, to, &k); !errors.Is(err, os.ErrExist) {
		t.Errorf("into a folder that is there: %v", err)
	}
}

// Whoever fetches a package can read it, and run what is in it.
func TestSealedFilesAreForEverybody(t *testing.T) {
	k, err := NewSecretKey()
	must(t, err)
	f := newFolder(t, "jobs", "1.2.0")
	must(t, os.Mkdir(f.path("dist"), 0o700))
	must(t, os.Rename(f.path("jobs"), f.path("dist/jobs")))
	edit(t, f.path(ManifestName), "{file: jobs}", "{file: dist/jobs}")
	to := filepath.Join(t.TempDir(), "jobs")
	if _, err := Seal(f.dir, to, &k); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]os.FileMode{
		".": 0o755, "dist": 0o755, "dist/jobs": 0o755, "jobs.binpb": 0o644, ManifestName: 0o644, SignatureName: 0o644,
	} {
		info, err := os.Stat(filepath.Join(to, name))
		must(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: mode %04o, want %04o", name, got, want)
		}
	}
}

func TestWhatCannotBeSealed(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(f folder)
		want string
	}{
		"no manifest":      {func(f folder) { must(f.t, os.Remove(f.path(ManifestName))) }, ManifestName},
		"a bad manifest":   {func(f folder) { edit(f.t, f.path(ManifestName), "summary", "summaries") }, "summaries"},
		"a missing binary": {func(f folder) { must(f.t, os.Remove(f.path("jobs"))) }, "jobs"},
		"another binary":   {func(f folder) { f.seal().write("jobs", "x") }, "the manifest says"},
		"bad descriptors":  {func(f folder) { f.write("jobs.binpb", "x") }, "FileDescriptorSet"},
	} {
		f, to := newFolder(t, "jobs", "1.2.0"), filepath.Join(t.TempDir(), "jobs")
		c.do(f)
		if _, err := Seal(f.dir, to, nil); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(to); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: something was left: %v", name, err)
		}
	}
}
