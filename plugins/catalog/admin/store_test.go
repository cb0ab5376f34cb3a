package admin_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/plugins/catalog"
)

// sumOf returns the name in the store of a file's content.
func sumOf(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(catalog.SumOf(b))
}

// What runs could not be started again if its binary were gone.
func TestAnUpgradeThatCannotBeRecordedKeepsItsBinary(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	_, err := h.add(binary(t, `{}`))
	must(t, err)
	own := filepath.Join(h.data, "plugins", "trial")
	must(t, os.RemoveAll(own))
	must(t, os.WriteFile(own, []byte("in the way"), 0o600))
	next := binary(t, `{"version":"1.1.0"}`)
	if _, err = h.upgrade("trial", next); err == nil || !strings.Contains(err.Error(), "could not be recorded") {
		t.Fatalf("got %v", err)
	}
	h.runs("trial", "1.1.0")
	if !slices.Contains(h.files(), sumOf(t, next)) {
		t.Errorf("what runs is not in the store: %v", h.files())
	}
}

// A plugin from a path that was refused is mended by a restart, and is in the store then.
func TestAMendedPluginFromAPathKeepsItsBinary(t *testing.T) {
	taken := folder(t, `{"name":"well"}`, func(m *catalog.Manifest) { m.Name = "zealous" })
	h := newHouse(t, t.TempDir(), setting{paths: []string{binary(t, `{"name":"well"}`), taken}})
	if p := h.list()["zealous"]; p.GetState() != refused {
		t.Fatalf("with the service of another: %v", p)
	}
	right := folder(t, `{"name":"zealous","version":"1.0.1"}`, func(*catalog.Manifest) {})
	must(t, os.RemoveAll(taken))
	must(t, os.CopyFS(taken, os.DirFS(right)))
	_, err := h.restart("zealous")
	must(t, err)
	h.runs("zealous", "1.0.1")
	if !slices.Contains(h.files(), sumOf(t, filepath.Join(right, "trial"))) {
		t.Errorf("what runs is not in the store: %v", h.files())
	}
}

// Files that are harmed while the plugin runs are put back by an upgrade to the same
// files. The process goes on.
func TestFilesThatAreHarmedMeanwhile(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	path := binary(t, `{}`)
	_, err := h.add(path)
	must(t, err)
	before, was := h.files(), h.list()["trial"]
	for name, file := range map[string]string{
		"the manifest": filepath.Join(h.data, "plugins", "trial", "1.0.0", catalog.ManifestName),
		"the binary":   filepath.Join(h.data, "store", was.GetSha256()),
	} {
		must(t, os.Remove(file))
		resp, err := h.plugins.Verify(within(t), &pluginv1.VerifyRequest{})
		must(t, err)
		if v := resp.GetVerdicts(); len(v) != 1 || v[0].GetOk() {
			t.Errorf("without %s: %v", name, v)
		}
		_, err = h.upgrade("trial", path)
		must(t, err)
		resp, err = h.plugins.Verify(within(t), &pluginv1.VerifyRequest{})
		must(t, err)
		if v := resp.GetVerdicts(); len(v) != 1 || !v[0].GetOk() || strings.Join(h.files(), " ") != strings.Join(before, " ") {
			t.Errorf("%s is back: %v; files %v, before %v", name, v, h.files(), before)
		}
		if now := h.list()["trial"]; now.GetPid() != was.GetPid() {
			t.Errorf("%s is back, and another process: %v, before %v", name, now, was)
		}
	}
	_, err = h.restart("trial")
	must(t, err)
	h.runs("trial", "1.0.0")
}
