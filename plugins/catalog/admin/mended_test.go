//go:build unix

package admin_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/plugins/catalog"
)

// sloppy is a host whose recipes do not end in order: each is gone, and there is an error.
type sloppy struct{ *host.Host }

var errSloppy = errors.New("it did not end in order")

func (h sloppy) RemoveRecipe(ctx context.Context, name string) error {
	return errors.Join(h.Host.RemoveRecipe(ctx, name), errSloppy)
}

// A plugin that was refused is mended although what stood in its place does not end in
// order, and it is refused again if it does not start.
func TestMendedWhereNothingEndsInOrder(t *testing.T) {
	first := newHouse(t, t.TempDir(), setting{})
	path := folder(t, `{}`, func(*catalog.Manifest) {})
	_, err := first.add(path)
	must(t, err)
	stored, err := filepath.Glob(filepath.Join(first.data, "store", "*"))
	must(t, err)
	first.stop()
	must(t, os.Remove(stored[0]))
	h := newHouse(t, first.data, setting{})
	h.service.Bind(sloppy{h.host})
	if p := h.list()["trial"]; p.GetState() != refused {
		t.Fatalf("%+v", p)
	}

	_, err = h.upgrade("trial", binary(t, `{"version":"1.1.0","mode":"crash"}`))
	want(t, err, "plugin_failed", "as it was told to")
	if p := h.list()["trial"]; p.GetState() != refused || h.recipe("trial") == nil {
		t.Errorf("after one that does not start: %v, %v", p, h.recipe("trial"))
	}
	_, err = h.upgrade("trial", path)
	must(t, err)
	h.runs("trial", "1.0.0")
}

// No plugin runs in the host's own process, whenever it comes.
func TestAPluginThatIsWantedInTheHostsProcess(t *testing.T) {
	const field = "recipes.trial.mode: a plugin runs in a process of its own"
	s := setting{inprocess: "trial"}
	h := newHouse(t, t.TempDir(), s)
	path := binary(t, `{}`)
	_, err := h.add(path)
	want(t, err, "plugin_refused", field)
	if h.recipe("trial") != nil || len(h.files()) != 0 {
		t.Errorf("something is left: %v, %v", h.recipe("trial"), h.files())
	}
	h = h.again(setting{})
	_, err = h.add(path)
	must(t, err)
	h = h.again(s)
	if p := h.list()["trial"]; p.GetState() != refused || !strings.Contains(p.GetMessage(), field) {
		t.Errorf("%+v", p)
	}
	_, err = h.restart("trial")
	want(t, err, "plugin_refused", field)
	h = h.again(setting{})
	h.runs("trial", "1.0.0")
}
