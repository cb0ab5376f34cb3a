package catalog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever a manifest says, it names files inside its folder only, and what is written
// of it is read again as the same.
func FuzzManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	f.Add([]byte(strings.Replace(goodManifest, "jobs.pyz", "a/../../b", 1)))
	f.Add([]byte(strings.Replace(goodManifest, "256MiB", "1.5e300", 1)))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		for _, file := range append([]File{m.Descriptors}, m.Binaries["any"]) {
			if strings.HasPrefix(file.File, "/") || strings.Contains("/"+file.File+"/", "/../") {
				t.Errorf("a file at %q", file.File)
			}
		}
		first, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseManifest(first)
		if err != nil {
			t.Fatalf("%v of\n%s", err, first)
		}
		if second, err := again.Marshal(); err != nil || !bytes.Equal(first, second) {
			t.Errorf("%v: written\n%sand again\n%s", err, first, second)
		}
	})
}

// No signature but the right one is taken.
func FuzzSignature(f *testing.F) {
	key, err := ParsePublicKey(minisignKey)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(minisignOld), []byte("test"))
	f.Add([]byte(minisignNew), []byte("test"))
	f.Add([]byte(minisignNew), []byte("tesu"))
	f.Fuzz(func(t *testing.T, signature, message []byte) {
		if _, err := verify(message, signature, []PublicKey{key}); err == nil && string(message) != "test" {
			t.Errorf("%q counts as a signature of %q", signature, message)
		}
	})
}

// A lock file that is read names nothing outside the plugin directory.
func FuzzLock(f *testing.F) {
	sum := strings.Repeat("0a", 32)
	f.Add("version: 1\nplugins:\n- {name: jobs, version: 1.2.0, sha256: " + sum + ", manifest: " + sum + ", descriptors: " + sum + "}\n")
	f.Add("version: 1\nplugins: []\n")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, LockName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		pins, err := readLock(dir)
		if err != nil {
			return
		}
		for _, p := range pins {
			if strings.ContainsAny(p.Name+p.Version+string(p.SHA256), "/\\") || p.Name == "" || p.Version == "" {
				t.Errorf("%+v", p)
			}
		}
	})
}
