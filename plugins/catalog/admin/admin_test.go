package admin_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/catalog"
)

const (
	ready   = pluginv1.PluginState_PLUGIN_STATE_READY
	refused = pluginv1.PluginState_PLUGIN_STATE_REFUSED
)

// want fails the test unless an error has a reason and says something.
func want(t *testing.T, err error, reason, text string) {
	t.Helper()
	if recipe.Reason(err) != reason || !strings.Contains(status.Convert(err).Message(), text) {
		t.Errorf("%v, want %s and %q", err, reason, text)
	}
}

func TestTheLifeOfAPlugin(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{recipes: map[string]host.RecipeConfig{"trial": {Mode: host.Subprocess, Config: []byte(`{"greeting":"good day"}`)}}})
	first := binary(t, `{"version":"1.0.0","always":"it begins"}`)
	added, err := h.add(first)
	must(t, err)
	if p := added.GetPlugin(); p.GetState() != ready || p.GetPid() == 0 || p.GetVersion() != "1.0.0" || len(added.GetWarnings()) != 0 {
		t.Errorf("added: %v", added)
	}
	if got, err := h.call("trial", "Hello", "you"); err != nil || got != "good day you" {
		t.Errorf("it answers %q, %v", got, err)
	}
	if r := h.recipe("trial"); r.GetMode() != hostv1.RecipeMode_RECIPE_MODE_SUBPROCESS || len(r.GetServices()) != 1 {
		t.Errorf("the host says %v", r)
	}
	_, err = h.add(first)
	want(t, err, "conflict", "conclave plugin upgrade")

	h = h.again(setting{})
	h.runs("trial", "1.0.0")
	if got, err := h.call("trial", "Hello", "you"); err != nil || got != " you" {
		t.Errorf("without a configuration it answers %q, %v", got, err)
	}

	upgraded, err := h.upgrade("trial", binary(t, `{"version":"1.1.0"}`))
	must(t, err)
	if upgraded.GetBefore() != "1.0.0" || upgraded.GetPlugin().GetVersion() != "1.1.0" {
		t.Errorf("upgraded: %v", upgraded)
	}
	h.runs("trial", "1.1.0")
	if files := h.files(); len(files) != 3 {
		t.Errorf("of two versions there are %v", files)
	}
	pid := h.list()["trial"].GetPid()
	again, err := h.restart("trial")
	must(t, err)
	if again.GetPid() == pid || again.GetState() != ready {
		t.Errorf("restarted: %v, before it was %d", again, pid)
	}
	h = h.again(setting{})
	h.runs("trial", "1.1.0")

	_, err = h.plugins.Remove(within(t), &pluginv1.RemoveRequest{Name: "trial"})
	must(t, err)
	if _, err := h.call("trial", "Version", ""); status.Code(err) != codes.Unimplemented {
		t.Errorf("removed, it answers %v", err)
	}
	if files := h.files(); len(files) != 1 || len(h.list()) != 0 {
		t.Errorf("left: %v, %v", files, h.list())
	}
	_, err = h.plugins.Remove(within(t), &pluginv1.RemoveRequest{Name: "trial"})
	want(t, err, "not_found", "trial")
}

// Whatever is wrong with what is added, nothing of it is left.
func TestAnAdditionThatFails(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	_, err := h.add(binary(t, `{"name":"well"}`))
	must(t, err)
	before := h.files()
	for name, c := range map[string]struct{ path, reason, text string }{
		"it crashes": {binary(t, `{"mode":"crash"}`), "plugin_failed", "as it was told to"},
		"it hangs": {folder(t, `{"mode":"hang"}`, func(m *catalog.Manifest) { m.Limits.StartTimeout = catalog.Duration(time.Second) }),
			"plugin_failed", ""},
		"its name is the host's":   {folder(t, `{}`, func(m *catalog.Manifest) { m.Name = "lock" }), "conflict", "recipe of that name"},
		"its service is another's": {folder(t, `{"name":"well"}`, func(m *catalog.Manifest) { m.Name = "other" }), "plugin_failed", "already registered"},
	} {
		_, err := h.add(c.path)
		if t.Log(name, err); err == nil {
			t.Errorf("%s: it is taken", name)
		}
		want(t, err, c.reason, c.text)
		if after := h.files(); strings.Join(after, " ") != strings.Join(before, " ") {
			t.Errorf("%s: left %v, before %v", name, after, before)
		}
		if all := h.list(); len(all) != 1 || h.recipe("other") != nil || h.recipe("trial") != nil {
			t.Errorf("%s: listed %v", name, all)
		}
	}
	h.runs("well", "1.0.0")
}

func TestWhatIsNoPlugin(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	for name, c := range map[string]struct {
		pieces       []*pluginv1.Piece
		reason, text string
	}{
		"nothing":          {nil, "invalid_manifest", "empty"},
		"no manifest":      {[]*pluginv1.Piece{{Part: &pluginv1.Piece_Binary{Binary: []byte("x")}}}, "invalid_manifest", "empty"},
		"a wrong manifest": {[]*pluginv1.Piece{{Part: &pluginv1.Piece_Manifest{Manifest: []byte("nam: x\n")}}}, "invalid_manifest", `did you mean "name"?`},
		"too much": {[]*pluginv1.Piece{{Part: &pluginv1.Piece_Manifest{Manifest: make([]byte, 100<<10)}}},
			"limit_package", "at most 64KiB"},
	} {
		stream, err := h.plugins.Add(within(t))
		must(t, err)
		for _, p := range c.pieces {
			_ = stream.Send(&pluginv1.AddRequest{Piece: p}) // the answer says why
		}
		if _, err = stream.CloseAndRecv(); err == nil {
			t.Errorf("%s is taken", name)
		}
		want(t, err, c.reason, c.text)
	}
	// One whose caller leaves half-way.
	ctx, cancel := context.WithCancel(within(t))
	stream, err := h.plugins.Add(ctx)
	must(t, err)
	must(t, stream.Send(&pluginv1.AddRequest{Piece: &pluginv1.Piece{Part: &pluginv1.Piece_Manifest{Manifest: []byte("x")}}}))
	cancel()
	_, err = stream.CloseAndRecv()
	if status.Code(err) != codes.Canceled {
		t.Errorf("cancelled: %v", err)
	}
	h.stop()
	if files, err := filepath.Glob(filepath.Join(h.data, "*", "*")); err != nil || len(files) != 0 {
		t.Errorf("left: %v, %v", files, err)
	}
	for _, name := range []string{"", "Nope", "../nope"} {
		h := newHouse(t, t.TempDir(), setting{})
		_, err := h.restart(name)
		want(t, err, "invalid_manifest", "name: ")
	}
}

// Who adds a plugin and leaves before it has started has added nothing.
func TestAnAdditionThatIsGivenUp(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	path := folder(t, `{"mode":"hang"}`, func(m *catalog.Manifest) { m.Limits.StartTimeout = catalog.Duration(5 * time.Minute) })
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	stream, err := h.plugins.Add(ctx)
	must(t, err)
	must(t, send(t, path, func(p *pluginv1.Piece) error { return stream.Send(&pluginv1.AddRequest{Piece: p}) }))
	must(t, stream.CloseSend())
	eventually(t, "it is being started", func() bool { return h.recipe("trial").GetState() == hostv1.RecipeState_RECIPE_STATE_STARTING })
	cancel()
	eventually(t, "nothing of it is left", func() bool { return h.recipe("trial") == nil && len(h.files()) == 0 })
	_, err = h.add(binary(t, `{}`))
	must(t, err)
	h.runs("trial", "1.0.0")
}

// An upgrade that fails leaves the old version, as it was.
func TestAnUpgradeThatFails(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	_, err := h.add(binary(t, `{}`))
	must(t, err)
	before, was := h.files(), h.list()["trial"]
	for name, c := range map[string]struct{ path, reason, text string }{
		"the new one crashes":                   {binary(t, `{"version":"1.1.0","mode":"crash"}`), "plugin_failed", ""},
		"the new one lacks a call":              {binary(t, `{"version":"1.1.0","mode":"poor"}`), "incompatible", "Version"},
		"it is the same":                        {binary(t, `{}`), "conflict", "it is the same"},
		"it is another, under the same version": {binary(t, `{"always":"x"}`), "conflict", "with other files"},
		"it is another plugin":                  {binary(t, `{"name":"other"}`), "invalid_name", "is another plugin"},
	} {
		_, err := h.upgrade("trial", c.path)
		if t.Log(name, err); err == nil {
			t.Errorf("%s: it is taken", name)
		}
		want(t, err, c.reason, c.text)
		h.runs("trial", "1.0.0")
		if now := h.list()["trial"]; now.GetPid() != was.GetPid() || now.GetVersion() != "1.0.0" || strings.Join(h.files(), " ") != strings.Join(before, " ") {
			t.Errorf("%s: %v, before %v; files %v", name, now, was, h.files())
		}
	}
	_, err = h.upgrade("nope", binary(t, `{"name":"nope"}`))
	want(t, err, "not_found", "conclave plugin add")
}

// A host starts whatever has become of its plugins' files, says so, and is mended
// while it runs.
func TestAHostWithBrokenPlugins(t *testing.T) {
	for name, c := range map[string]struct {
		harm   func(t *testing.T, store, dir string)
		reason string
	}{
		"a flipped bit": {func(t *testing.T, store, _ string) {
			t.Helper()
			b, err := os.ReadFile(store)
			must(t, err)
			b[len(b)/2] ^= 1
			must(t, os.Remove(store))
			must(t, os.WriteFile(store, b, 0o500))
		}, "changed"},
		"a link": {func(t *testing.T, store, _ string) {
			t.Helper()
			must(t, os.Rename(store, store+".moved"))
			must(t, os.Symlink(store+".moved", store))
		}, "changed"},
		"no binary": {func(t *testing.T, store, _ string) { t.Helper(); must(t, os.Remove(store)) }, "missing"},
		"no manifest": {func(t *testing.T, _, dir string) {
			t.Helper()
			must(t, os.Remove(filepath.Join(dir, catalog.ManifestName)))
		}, "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, t.TempDir(), setting{})
			path := binary(t, `{}`)
			_, err := h.add(path)
			must(t, err)
			_, err = h.add(binary(t, `{"name":"well"}`))
			must(t, err)
			sum := h.list()["trial"].GetSha256()
			h.stop()
			c.harm(t, filepath.Join(h.data, "store", sum), filepath.Join(h.data, "plugins", "trial", "1.0.0"))

			h = h.again(setting{recipes: map[string]host.RecipeConfig{"trial": {Config: []byte(`{"greeting":"hi"}`)}}})
			h.runs("well", "1.0.0")
			if p := h.list()["trial"]; p.GetState() != refused || p.GetMessage() == "" || p.GetPid() != 0 {
				t.Errorf("listed: %v", p)
			}
			if r := h.recipe("trial"); r.GetState() != hostv1.RecipeState_RECIPE_STATE_QUARANTINED || !strings.Contains(r.GetMessage(), "conclave plugin upgrade trial") {
				t.Errorf("the host says %v", r)
			}
			resp, err := h.plugins.Verify(within(t), &pluginv1.VerifyRequest{})
			must(t, err)
			if v := resp.GetVerdicts(); len(v) != 2 || v[0].GetOk() || v[0].GetReason() != c.reason || v[0].GetHint() == "" || !v[1].GetOk() {
				t.Errorf("verdicts: %v", v)
			}
			_, err = h.restart("trial")
			want(t, err, "plugin_refused", "trial")
			_, err = h.add(path)
			want(t, err, "conflict", "trial")
			_, err = h.upgrade("trial", binary(t, `{"mode":"crash"}`))
			want(t, err, "plugin_failed", "")
			if r := h.recipe("trial"); r.GetState() != hostv1.RecipeState_RECIPE_STATE_QUARANTINED {
				t.Errorf("after a repair that failed the host says %v", r)
			}
			if name == "a link" {
				must(t, os.Remove(filepath.Join(h.data, "store", sum)))
			}
			_, err = h.upgrade("trial", path)
			must(t, err)
			if got, err := h.call("trial", "Hello", "you"); err != nil || got != "hi you" {
				t.Errorf("mended, it answers %q, %v", got, err)
			}
			h.again(setting{}).runs("trial", "1.0.0")
		})
	}
}

// The configuration, and a lock file that nobody can read.
func TestPluginsThatAreNotStarted(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	_, err := h.add(binary(t, `{}`))
	must(t, err)

	h = h.again(setting{recipes: map[string]host.RecipeConfig{"trial": {Config: []byte(`{"greting":"hi"}`)}}})
	if p := h.list()["trial"]; p.GetState() != refused || !strings.Contains(p.GetMessage(), `recipes.trial.config: unknown field "greting"; did you mean "greeting"?`) {
		t.Errorf("with a wrong configuration: %v", p)
	}
	_, err = h.restart("trial")
	want(t, err, "plugin_failed", "greting")

	h = h.again(setting{recipes: map[string]host.RecipeConfig{"trial": {Mode: host.Off}}})
	if p := h.list()["trial"]; p.GetState() != pluginv1.PluginState_PLUGIN_STATE_OFF || p.GetPid() != 0 {
		t.Errorf("switched off: %v", p)
	}
	_, err = h.restart("trial")
	want(t, err, "plugin_refused", "recipes.trial.mode is off")
	_, err = h.upgrade("trial", binary(t, `{"version":"1.1.0"}`))
	must(t, err)

	h = h.again(setting{})
	h.runs("trial", "1.1.0")
	h.stop()
	must(t, os.WriteFile(filepath.Join(h.data, "plugins", catalog.LockName), []byte("plugins: ["), 0o600))
	h = h.again(setting{})
	if p := h.list()["trial"]; p.GetState() != refused || !strings.Contains(p.GetMessage(), catalog.LockName) {
		t.Errorf("with a broken lock file: %v", p)
	}
	_, err = h.add(binary(t, `{"name":"other"}`))
	if err == nil {
		t.Error("something is added to a lock file that cannot be read")
	}
	h.stop()
	must(t, os.Remove(filepath.Join(h.data, "plugins", catalog.LockName)))
	h = h.again(setting{})
	if p := h.list()["trial"]; p.GetState() != pluginv1.PluginState_PLUGIN_STATE_DISCOVERED || h.recipe("trial") != nil {
		t.Errorf("without a lock file: %v, %v", p, h.recipe("trial"))
	}
	_, err = h.restart("trial")
	want(t, err, "plugin_refused", "was not added")
	_, err = h.plugins.Remove(within(t), &pluginv1.RemoveRequest{Name: "trial"})
	must(t, err)
	if len(h.list()) != 0 {
		t.Errorf("removed: %v", h.list())
	}
}

func TestSignaturesOfAHost(t *testing.T) {
	k, err := catalog.NewSecretKey()
	must(t, err)
	keys := `"keys":["` + k.Public().String() + `"]`
	plain := folder(t, `{}`, func(*catalog.Manifest) {})
	signed := filepath.Join(t.TempDir(), "signed")
	_, err = catalog.Seal(plain, signed, &k)
	must(t, err)

	h := newHouse(t, t.TempDir(), setting{plugins: `{` + keys + `}`})
	_, err = h.add(plain)
	want(t, err, "invalid_signature", "has none")
	added, err := h.add(signed)
	must(t, err)
	if added.GetPlugin().GetKeyId() != k.Public().ID() || len(added.GetWarnings()) != 0 {
		t.Errorf("%v", added)
	}
	other := newHouse(t, t.TempDir(), setting{plugins: `{"policy":"warn",` + keys + `}`})
	added, err = other.add(plain)
	must(t, err)
	if w := added.GetWarnings(); len(w) != 1 || !strings.Contains(w[0], "has none") {
		t.Errorf("warnings %q", w)
	}
	stranger, err := catalog.NewSecretKey()
	must(t, err)
	h = h.again(setting{plugins: `{"keys":["` + stranger.Public().String() + `"]}`})
	if p := h.list()["trial"]; p.GetState() != refused || !strings.Contains(p.GetMessage(), "not among plugins.keys") {
		t.Errorf("the key is trusted no more: %v", p)
	}
}

// A plugin that a developer works on: it is read again at every restart, and what is
// recorded stays as it was.
func TestAPluginFromAPath(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	_, err := h.add(binary(t, `{"version":"0.9.0"}`))
	must(t, err)
	path := binary(t, `{"version":"1.0.0"}`)
	h = h.again(setting{paths: []string{path}})
	h.runs("trial", "1.0.0")
	if p := h.list()["trial"]; !p.GetUnpinned() {
		t.Errorf("%v", p)
	}
	pid := h.list()["trial"].GetPid()
	p, err := h.restart("trial")
	must(t, err)
	if p.GetPid() == pid {
		t.Error("the same process")
	}
	write(t, path, `{"version":"1.0.0","always":"built again"}`)
	_, err = h.restart("trial")
	must(t, err)
	write(t, path, `{"version":"1.0.1"}`)
	_, err = h.restart("trial")
	must(t, err)
	h.runs("trial", "1.0.1")
	for orders, reason := range map[string]string{`{"version":"1.0.2","mode":"crash"}`: "plugin_failed", `{"name":"other"}`: "invalid_name"} {
		write(t, path, orders)
		_, err = h.restart("trial")
		want(t, err, reason, "")
		h.runs("trial", "1.0.1")
	}
	_, err = h.upgrade("trial", binary(t, `{"version":"1.2.0"}`))
	want(t, err, "conflict", "conclave plugin restart")
	_, err = h.plugins.Remove(within(t), &pluginv1.RemoveRequest{Name: "trial"})
	must(t, err)
	h.again(setting{}).runs("trial", "0.9.0")
}

// Of many who add the same plugin one does.
func TestAdditionsAtOneTime(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	path := binary(t, `{}`)
	errs := make([]error, 4)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { _, errs[i] = h.add(path) })
	}
	all.Wait()
	added := 0
	for _, err := range errs {
		if err == nil {
			added++
		} else {
			want(t, err, "conflict", "trial")
		}
	}
	if added != 1 {
		t.Errorf("%d of them did: %v", added, errs)
	}
	h.runs("trial", "1.0.0")
	h.again(setting{}).runs("trial", "1.0.0")
}

func TestLogs(t *testing.T) {
	h := newHouse(t, t.TempDir(), setting{})
	_, err := h.add(binary(t, `{"always":"it begins"}`))
	must(t, err)
	read := func(follow bool) string {
		t.Helper()
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		stream, err := h.plugins.Logs(ctx, &pluginv1.LogsRequest{Name: "trial", Follow: follow})
		must(t, err)
		text := ""
		for !follow || !strings.Contains(text, "it begins") {
			resp, err := stream.Recv()
			if err != nil {
				return text
			}
			text += string(resp.GetOutput())
		}
		return text
	}
	for _, follow := range []bool{false, true} {
		if got := read(follow); !strings.Contains(got, "it begins") {
			t.Errorf("follow %v: %q", follow, got)
		}
	}
	stream, err := h.plugins.Logs(within(t), &pluginv1.LogsRequest{Name: "nope"})
	if err == nil {
		_, err = stream.Recv()
	}
	want(t, err, "not_found", "nope")
}
