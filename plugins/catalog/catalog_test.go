package catalog

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestWhatWasAddedIsThere(t *testing.T) {
	c, data := newCatalog(t, Config{})
	if entries, err := c.Load(within(t)); err != nil || len(entries) != 0 {
		t.Fatalf("at first: %v, %v", entries, err)
	}
	f := newFolder(t, "jobs", "1.2.0")
	added := add(t, c, f)
	e := only(t, openCatalog(t, Config{}, data))
	if e.Err != nil || e.Plugin.Pin != added.Pin || e.Plugin.Unpinned || e.Plugin.Manifest.Services[0] != "acme.jobs.v1.JobService" || len(e.Plugin.Descriptors.GetFile()) != 1 {
		t.Fatalf("%+v", e)
	}
	info, err := os.Stat(e.Plugin.Path)
	if err != nil || info.Mode().Perm() != 0o500 || filepath.Base(e.Plugin.Path) != string(SumOf([]byte(f.read("jobs")))) {
		t.Errorf("%s: %v, %v", e.Plugin.Path, info.Mode(), err)
	}
	for _, dir := range []string{"store", "plugins"} {
		if info, err := os.Stat(filepath.Join(data, dir)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, info.Mode(), err)
		}
	}
	// What the author does with the folder afterwards is no matter of the host's.
	if err := os.RemoveAll(f.dir); err != nil {
		t.Fatal(err)
	}
	if e := only(t, c); e.Err != nil {
		t.Error(e.Err)
	}
	if err := c.Remove("jobs"); err != nil {
		t.Fatal(err)
	}
	if err := c.Remove("jobs"); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(data, "*", "*"))
	if err != nil || !slices.Equal(left, []string{filepath.Join(data, "plugins", LockName)}) {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Each of them makes the plugin one that is not run, with a message that names the
// file, and does nothing to the plugin beside it.
func TestWhatIsNotWhatWasAdded(t *testing.T) {
	type scene struct{ store, plugins string } // the paths of the binary and the version's folder
	for name, c := range map[string]struct {
		do   func(t *testing.T, s scene)
		is   error
		want string
	}{
		"a flipped bit": {func(t *testing.T, s scene) { flip(t, s.store) }, ErrChanged, "has the SHA-256"},
		"another binary by a link": {func(t *testing.T, s scene) {
			other := s.store + ".other"
			must(t, os.WriteFile(other, []byte("#!/bin/sh\n"), 0o500))
			must(t, os.Remove(s.store))
			must(t, os.Symlink(other, s.store))
		}, ErrChanged, "it is a symbolic link"},
		"the same binary by a link": {func(t *testing.T, s scene) {
			must(t, os.Rename(s.store, s.store+".moved"))
			must(t, os.Symlink(s.store+".moved", s.store))
		}, ErrChanged, "it is a symbolic link"},
		"a directory": {func(t *testing.T, s scene) {
			must(t, os.Remove(s.store))
			must(t, os.Mkdir(s.store, 0o700))
		}, ErrChanged, "it is a directory"},
		"a binary that all may write": {func(t *testing.T, s scene) { must(t, os.Chmod(s.store, 0o777)) }, ErrChanged, "it can be written by others"},
		"no binary":                   {func(t *testing.T, s scene) { must(t, os.Remove(s.store)) }, ErrMissing, "store"},
		"an empty binary":             {func(t *testing.T, s scene) { overwrite(t, s.store, "") }, ErrChanged, "has the SHA-256"},
		"no folder":                   {func(t *testing.T, s scene) { must(t, os.RemoveAll(s.plugins)) }, ErrMissing, "1.2.0"},
		"no manifest":                 {func(t *testing.T, s scene) { must(t, os.Remove(filepath.Join(s.plugins, ManifestName))) }, ErrMissing, ManifestName},
		"another manifest": {func(t *testing.T, s scene) {
			edit(t, filepath.Join(s.plugins, ManifestName), "on a schedule", "at night")
		}, ErrChanged, ManifestName},
		"a broken manifest": {func(t *testing.T, s scene) { edit(t, filepath.Join(s.plugins, ManifestName), "summary", "summaries") }, ErrManifest, "summaries"},
		"no descriptors":    {func(t *testing.T, s scene) { must(t, os.Remove(filepath.Join(s.plugins, "jobs.binpb"))) }, ErrMissing, "jobs.binpb"},
		"other descriptors": {func(t *testing.T, s scene) {
			b := string(descriptors(t)) // a field that nobody knows, at the end
			overwrite(t, filepath.Join(s.plugins, "jobs.binpb"), b+"\xf8\x07\x01")
		}, ErrChanged, "jobs.binpb"},
		"a manifest by a link out of the folder": {func(t *testing.T, s scene) {
			outside := filepath.Join(t.TempDir(), "plugin.yaml")
			must(t, os.Rename(filepath.Join(s.plugins, ManifestName), outside))
			must(t, os.Symlink(outside, filepath.Join(s.plugins, ManifestName)))
		}, nil, "escapes"},
		"a manifest of gigabytes": {func(t *testing.T, s scene) {
			must(t, os.Truncate(filepath.Join(s.plugins, ManifestName), 8<<30))
		}, ErrTooLarge, "at most 64KiB"},
		"a pipe for a manifest": {func(t *testing.T, s scene) { pipe(t, filepath.Join(s.plugins, ManifestName)) }, nil, "not a file"},
	} {
		t.Run(name, func(t *testing.T) {
			catalog, data := newCatalog(t, Config{})
			p := add(t, catalog, newFolder(t, "jobs", "1.2.0"))
			add(t, catalog, newFolder(t, "other", "0.1.0"))
			c.do(t, scene{p.Path, filepath.Join(data, "plugins", "jobs", "1.2.0")})
			entries, err := openCatalog(t, Config{}, data).Load(within(t))
			if err != nil || len(entries) != 2 {
				t.Fatalf("%d entries, %v", len(entries), err)
			}
			if got := entries[0].Err; got == nil || (c.is != nil && !errors.Is(got, c.is)) || !strings.Contains(got.Error(), c.want) || entries[0].Plugin != nil {
				t.Errorf("error %v, want %q", got, c.want)
			}
			if entries[1].Err != nil {
				t.Errorf("the other one: %v", entries[1].Err)
			}
		})
	}
}

func TestTheLockDecides(t *testing.T) {
	c, data := newCatalog(t, Config{})
	add(t, c, newFolder(t, "jobs", "1.2.0"))
	lock := filepath.Join(data, "plugins", LockName)
	before, err := os.ReadFile(lock)
	must(t, err)

	must(t, os.Remove(lock))
	if e := only(t, c); !errors.Is(e.Err, ErrNotAdded) || e.Name != "jobs" {
		t.Errorf("without a lock: %+v", e)
	}
	for name, b := range map[string]string{
		"not YAML":        "plugins: [",
		"an unknown key":  strings.Replace(string(before), "sha256", "sha265", 1),
		"another version": strings.Replace(string(before), "version: 1\n", "version: 2\n", 1),
		"a path":          strings.Replace(string(before), "name: jobs", "name: ../jobs", 1),
		"a bad sum":       strings.Replace(string(before), "sha256: ", "sha256: 0", 1),
		"a bad version":   strings.Replace(string(before), "1.2.0", "../1.2.0", 1),
		"empty":           "",
	} {
		overwrite(t, lock, b)
		entries, err := c.Load(within(t))
		if err == nil || !strings.Contains(err.Error(), lock) || len(entries) != 1 || entries[0].Plugin != nil || !errors.Is(entries[0].Err, err) {
			t.Errorf("%s: %v, %+v", name, err, entries)
		}
	}
	overwrite(t, lock, string(before))
	if e := only(t, c); e.Err != nil {
		t.Error(e.Err)
	}
}

// A folder and a lock file from another host, and no store: the binary lies in the
// folder and is put into the store, if it is the right one.
func TestCarriedOver(t *testing.T) {
	for name, c := range map[string]struct {
		binary string
		is     error
	}{"the same": {"#!/bin/sh\n# jobs 1.2.0\n", nil}, "another": {"#!/bin/sh\n# jobs 1.2.1\n", ErrChanged}} {
		t.Run(name, func(t *testing.T) {
			first, data := newCatalog(t, Config{})
			add(t, first, newFolder(t, "jobs", "1.2.0"))
			second, there := newCatalog(t, Config{})
			must(t, os.CopyFS(filepath.Join(there, "plugins"), os.DirFS(filepath.Join(data, "plugins"))))
			if e := only(t, second); !errors.Is(e.Err, ErrMissing) {
				t.Errorf("without a binary: %v", e.Err)
			}
			must(t, os.WriteFile(filepath.Join(there, "plugins", "jobs", "1.2.0", "jobs"), []byte(c.binary), 0o600))
			if e := only(t, second); !errors.Is(e.Err, c.is) || (c.is == nil) != (e.Plugin != nil) {
				t.Errorf("%v", e.Err)
			}
		})
	}
}

func TestAnUpgradeLeavesNothingOfTheOld(t *testing.T) {
	c, data := newCatalog(t, Config{})
	old := add(t, c, newFolder(t, "jobs", "1.2.0"))
	next := add(t, c, newFolder(t, "jobs", "1.3.0"))
	if e := only(t, c); e.Err != nil || e.Pin.Version != "1.3.0" || e.Plugin.Path != next.Path {
		t.Errorf("%+v", e)
	}
	for _, path := range []string{old.Path, filepath.Join(data, "plugins", "jobs", "1.2.0")} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

// What is prepared and not pinned keeps its binary until it is discarded, whatever is
// done to others.
func TestPreparedAndDiscarded(t *testing.T) {
	c, _ := newCatalog(t, Config{})
	pkg, err := ReadFolder(newFolder(t, "jobs", "1.2.0").dir, Platform())
	must(t, err)
	defer func() { must(t, pkg.Close()) }()
	p, err := c.Prepare(within(t), pkg)
	must(t, err)
	if !p.Unpinned {
		t.Error("pinned")
	}
	add(t, c, newFolder(t, "other", "0.1.0"))
	must(t, c.Remove("other"))
	if _, err := os.Stat(p.Path); err != nil {
		t.Error(err)
	}
	must(t, c.Discard(p))
	if _, err := os.Stat(p.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("discarded: %v", err)
	}
}

func TestWhatAPackageLacks(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(f folder)
		is   error
		want string
	}{
		"nothing":                {func(folder) {}, nil, ""},
		"no binary":              {func(f folder) { must(f.t, os.Remove(f.path("jobs"))) }, ErrMissing, "jobs"},
		"an empty binary":        {func(f folder) { f.write("jobs", "") }, ErrManifest, "empty"},
		"another binary":         {func(f folder) { f.seal().write("jobs", "x") }, ErrChanged, "the manifest says"},
		"other descriptors":      {func(f folder) { f.seal().write("jobs.binpb", "") }, ErrChanged, "the manifest says"},
		"broken descriptors":     {func(f folder) { f.write("jobs.binpb", "x") }, ErrManifest, "not a FileDescriptorSet"},
		"no such service":        {func(f folder) { edit(f.t, f.path(ManifestName), "JobService", "Jobs") }, ErrManifest, "services[0]: jobs.binpb has no service"},
		"no such message":        {func(f folder) { edit(f.t, f.path(ManifestName), "v1.Config", "v1.Conf") }, ErrManifest, "config: "},
		"a service for a config": {func(f folder) { edit(f.t, f.path(ManifestName), "v1.Config", "v1.JobService") }, ErrManifest, "config: "},
		"another protocol":       {func(f folder) { edit(f.t, f.path(ManifestName), "protocol: 1", "protocol: 7") }, ErrUnsupported, "use a newer conclave"},
		"an older protocol":      {func(f folder) { edit(f.t, f.path(ManifestName), "protocol: 1", "protocol: -1") }, ErrUnsupported, "newer SDK"},
		"another platform":       {func(f folder) { edit(f.t, f.path(ManifestName), "any:", "plan9/mips:") }, ErrUnsupported, "plan9/mips"},
	} {
		t.Run(name, func(t *testing.T) {
			catalog, _ := newCatalog(t, Config{})
			f := newFolder(t, "jobs", "1.2.0")
			c.do(f)
			_, err := tryAdd(t, catalog, f)
			if c.is == nil && err != nil || c.is != nil && (!errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			entries, err := catalog.Load(within(t))
			if err != nil || len(entries) != 0 && c.is != nil {
				t.Errorf("afterwards: %v, %v", entries, err)
			}
		})
	}
}

func TestPolicies(t *testing.T) {
	k, err := NewSecretKey()
	must(t, err)
	stranger, err := NewSecretKey()
	must(t, err)
	keys := []string{k.Public().String()}
	signed := func(t *testing.T) folder { t.Helper(); return newFolder(t, "jobs", "1.2.0").sign(k) }
	for name, c := range map[string]struct {
		folder   func(t *testing.T) folder
		required error
		want     string
	}{
		"signed":   {signed, nil, ""},
		"unsigned": {func(t *testing.T) folder { t.Helper(); return newFolder(t, "jobs", "1.2.0").seal() }, ErrSignature, "has none"},
		"signed by a stranger": {func(t *testing.T) folder { t.Helper(); return newFolder(t, "jobs", "1.2.0").sign(stranger) },
			ErrSignature, "not among plugins.keys"},
		"changed": {func(t *testing.T) folder {
			t.Helper()
			f := signed(t)
			edit(t, f.path(ManifestName), "on a schedule", "at night")
			return f
		}, ErrSignature, "did not sign"},
		"without sums": {func(t *testing.T) folder {
			t.Helper()
			f := newFolder(t, "jobs", "1.2.0")
			f.write(SignatureName, string(k.Sign([]byte(f.read(ManifestName)), "")))
			return f
		}, ErrSignature, "does not cover"},
	} {
		for _, policy := range []string{PolicyRequire, PolicyWarn, PolicyOff} {
			catalog, _ := newCatalog(t, Config{Policy: policy, Keys: keys})
			p, err := tryAdd(t, catalog, c.folder(t))
			switch {
			case policy == PolicyRequire && c.required != nil:
				if !errors.Is(err, c.required) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s, %s: %v", name, policy, err)
				}
			case err != nil:
				t.Errorf("%s, %s: %v", name, policy, err)
			case (len(p.Warnings) > 0) != (policy == PolicyWarn && c.required != nil):
				t.Errorf("%s, %s: warnings %q", name, policy, p.Warnings)
			case (p.Pin.Key == k.Public().ID()) != (policy != PolicyOff && c.required == nil):
				t.Errorf("%s, %s: key %q", name, policy, p.Pin.Key)
			}
		}
	}
}

// A key that is trusted no more ends what it signed, at the host's next start.
func TestAKeyThatIsNotTrustedAnyMore(t *testing.T) {
	k, err := NewSecretKey()
	must(t, err)
	other, err := NewSecretKey()
	must(t, err)
	c, data := newCatalog(t, Config{Keys: []string{k.Public().String()}})
	add(t, c, newFolder(t, "jobs", "1.2.0").sign(k))
	if e := only(t, openCatalog(t, Config{Keys: []string{other.Public().String()}}, data)); !errors.Is(e.Err, ErrSignature) {
		t.Errorf("%+v", e)
	}
}

func TestPieces(t *testing.T) {
	c, data := newCatalog(t, Config{})
	f := newFolder(t, "jobs", "1.2.0")
	ps, err := c.Pieces()
	must(t, err)
	send := func(take func([]byte) error, name string) {
		t.Helper()
		for part := range slices.Chunk([]byte(f.read(name)), 7) {
			must(t, take(part))
		}
	}
	send(ps.Manifest, ManifestName)
	if _, err := ps.Package(); !errors.Is(err, ErrManifest) {
		t.Errorf("half of it: %v", err)
	}
	send(ps.Binary, "jobs")
	send(ps.Descriptors, "jobs.binpb")
	pkg, err := ps.Package()
	must(t, err)
	p, err := c.Prepare(within(t), pkg)
	must(t, err)
	must(t, c.Pin(pkg, p))
	must(t, ps.Close())
	if e := only(t, c); e.Err != nil || e.Pin.SHA256 != SumOf([]byte(f.read("jobs"))) {
		t.Errorf("%+v", e)
	}
	if left, err := filepath.Glob(filepath.Join(data, "plugins", incoming+"*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if ps, err = c.Pieces(); err != nil {
		t.Fatal(err)
	}
	if err := ps.Manifest(bytes.Repeat([]byte("#"), maxManifest+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too much: %v", err)
	}
	other, err := ReadFolder(newFolder(t, "other", "0.1.0").dir, Platform())
	must(t, err)
	prepared, err := c.Prepare(within(t), other)
	must(t, errors.Join(err, other.Close()))
	// The host dies here: the next one clears up.
	next := openCatalog(t, Config{}, data)
	must(t, next.Sweep())
	if _, err := os.Stat(prepared.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was not pinned after a sweep: %v", err)
	}
	if e := only(t, next); e.Err != nil {
		t.Errorf("what was, after a sweep: %v", e.Err)
	}
	if left, err := filepath.Glob(filepath.Join(data, "plugins", incoming+"*")); err != nil || len(left) != 0 {
		t.Errorf("left after a sweep: %v, %v", left, err)
	}
	must(t, ps.Close())
}

func TestACopyThatIsGivenUp(t *testing.T) {
	c, _ := newCatalog(t, Config{})
	pkg, err := ReadFolder(newFolder(t, "jobs", "1.2.0").dir, Platform())
	must(t, err)
	defer func() { must(t, pkg.Close()) }()
	why := errors.New("the caller left")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if _, err := c.Prepare(ctx, pkg); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(c.store.dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path, content string) {
	t.Helper()
	must(t, errors.Join(os.RemoveAll(path), os.WriteFile(path, []byte(content), 0o500)))
}

func edit(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	changed := strings.Replace(string(b), from, to, 1)
	if changed == string(b) {
		t.Fatalf("%s has no %q", path, from)
	}
	overwrite(t, path, changed)
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	b[len(b)/2] ^= 1
	overwrite(t, path, string(b))
}
