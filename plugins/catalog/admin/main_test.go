package admin_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/plugins/catalog"
	"github.com/conclavehq/conclave/plugins/catalog/admin"
	"github.com/conclavehq/conclave/plugins/launcher"
	"github.com/conclavehq/conclave/recipes/lock"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds what must happen; no test passes or fails by being quicker.
const patience = 90 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// program is the trial plugin without orders.
var program = sync.OnceValues(func() (_ []byte, err error) {
	dir, err := os.MkdirTemp("", "trial-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "trial")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "../testdata/trial")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// write makes a plugin of the trial program that does as it is ordered.
func write(t *testing.T, path, orders string) string {
	t.Helper()
	b, err := program()
	must(t, err)
	must(t, errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.RemoveAll(path)))
	// A process that is started while the file is open for writing has it open too for a
	// moment, and it cannot be run (golang/go#22315).
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	must(t, os.WriteFile(path, append(slices.Clone(b), "\nTRIAL"+orders...), 0o700))
	return path
}

func binary(t *testing.T, orders string) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "trial"), orders)
}

// folder makes a folder of a plugin's binary; change edits its manifest.
func folder(t *testing.T, orders string, change func(*catalog.Manifest)) string {
	t.Helper()
	path := binary(t, orders)
	p, err := catalog.Describe(within(t), path)
	must(t, err)
	change(p.Manifest)
	source, err := p.Manifest.Marshal()
	must(t, err)
	must(t, os.WriteFile(filepath.Join(filepath.Dir(path), catalog.ManifestName), source, 0o600))
	must(t, os.WriteFile(filepath.Join(filepath.Dir(path), "descriptors.binpb"), p.Descriptors, 0o600))
	return filepath.Dir(path)
}

// A house is a host with its plugins, in a data directory.
type house struct {
	t       *testing.T
	data    string
	service *admin.Service
	launch  *launcher.Launcher
	host    *host.Host
	conn    *grpc.ClientConn
	plugins pluginv1.PluginServiceClient
	stopped bool
}

// A setting changes a house before it is built.
type setting struct {
	plugins string // the section of the configuration
	recipes map[string]host.RecipeConfig
	paths   []string

	inprocess string // the plugin that the configuration wants in the host's process
}

// newHouse starts a host, which ends with the test.
func newHouse(t *testing.T, data string, s setting) *house {
	t.Helper()
	h := &house{t: t, data: data}
	log := slog.New(slog.NewTextHandler(testLog{t}, nil))
	section, err := catalog.ParseConfig([]byte(s.plugins))
	must(t, err)
	c, err := catalog.Open(section, data)
	must(t, err)
	h.launch = launcher.New(launcher.Config{Log: log})
	h.service = admin.New(admin.Config{Catalog: c, Launcher: h.launch, Log: log, Reserved: []string{"lock"},
		Off:       func(name string) bool { return s.recipes[name].Mode == host.Off },
		Inprocess: func(name string) bool { return s.inprocess == name }})
	if err := h.service.Load(within(t)); err != nil {
		t.Log(err)
	}
	for _, path := range s.paths {
		must(t, h.service.LoadPath(within(t), path))
	}
	opts := []host.Option{host.WithRecipe(lock.Recipe{}), host.WithLogger(log),
		host.WithAdmin(true, func(reg grpc.ServiceRegistrar) { pluginv1.RegisterPluginServiceServer(reg, h.service) })}
	for _, r := range h.service.Recipes() {
		opts = append(opts, host.WithOptionalRecipe(r.Recipe, r.Instead))
	}
	h.host, err = host.New(host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: []string{etcd.Endpoint()}}, Recipes: s.recipes}, opts...)
	must(t, err)
	must(t, h.host.Start(within(t)))
	t.Cleanup(h.stop)
	h.service.Bind(h.host)
	h.conn, err = grpc.NewClient(h.host.API()[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	h.plugins = pluginv1.NewPluginServiceClient(h.conn)
	return h
}

func (h *house) stop() {
	h.t.Helper()
	if h.stopped {
		return
	}
	h.stopped = true
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, err := range []error{h.conn.Close(), h.host.Stop(ctx), h.launch.Close(ctx)} {
		if err != nil && !errors.Is(err, net.ErrClosed) {
			h.t.Error(err)
		}
	}
}

// again starts a host on the same data.
func (h *house) again(s setting) *house {
	h.t.Helper()
	h.stop()
	return newHouse(h.t, h.data, s)
}

// send sends a package in pieces.
func send(t *testing.T, path string, to func(*pluginv1.Piece) error) error {
	t.Helper()
	p, err := catalog.Read(within(t), path)
	must(t, err)
	defer func() { must(t, p.Close()) }()
	b, err := os.ReadFile(p.Binary)
	must(t, err)
	pieces := []*pluginv1.Piece{{Part: &pluginv1.Piece_Manifest{Manifest: p.Source}}, {Part: &pluginv1.Piece_Signature{Signature: p.Signature}},
		{Part: &pluginv1.Piece_Descriptors{Descriptors: p.Descriptors}}}
	for part := range slices.Chunk(b, 500<<10) {
		pieces = append(pieces, &pluginv1.Piece{Part: &pluginv1.Piece_Binary{Binary: part}})
	}
	for _, piece := range pieces {
		if err := to(piece); err != nil {
			return err
		}
	}
	return nil
}

func (h *house) add(path string) (*pluginv1.AddResponse, error) {
	h.t.Helper()
	stream, err := h.plugins.Add(within(h.t))
	must(h.t, err)
	_ = send(h.t, path, func(p *pluginv1.Piece) error { return stream.Send(&pluginv1.AddRequest{Piece: p}) }) // the answer says why
	return stream.CloseAndRecv()
}

func (h *house) upgrade(name, path string) (*pluginv1.UpgradeResponse, error) {
	h.t.Helper()
	stream, err := h.plugins.Upgrade(within(h.t))
	must(h.t, err)
	_ = send(h.t, path, func(p *pluginv1.Piece) error {
		return stream.Send(&pluginv1.UpgradeRequest{Name: name, Piece: p})
	}) // the answer says why
	return stream.CloseAndRecv()
}

func (h *house) restart(name string) (*pluginv1.Plugin, error) {
	h.t.Helper()
	resp, err := h.plugins.Restart(within(h.t), &pluginv1.RestartRequest{Name: name})
	return resp.GetPlugin(), err
}

// list returns the plugins by their names.
func (h *house) list() map[string]*pluginv1.Plugin {
	h.t.Helper()
	resp, err := h.plugins.List(within(h.t), &pluginv1.ListRequest{})
	must(h.t, err)
	all := map[string]*pluginv1.Plugin{}
	for _, p := range resp.GetPlugins() {
		all[p.GetName()] = p
	}
	return all
}

// recipe returns what the host says of a recipe.
func (h *house) recipe(name string) *hostv1.Recipe {
	h.t.Helper()
	resp, err := hostv1.NewHostServiceClient(h.conn).ListRecipes(within(h.t), &hostv1.ListRecipesRequest{})
	must(h.t, err)
	for _, r := range resp.GetRecipes() {
		if r.GetName() == name {
			return r
		}
	}
	return nil
}

// call asks a trial plugin.
func (h *house) call(service, method, what string) (string, error) {
	h.t.Helper()
	reply := new(wrapperspb.StringValue)
	err := h.conn.Invoke(within(h.t), "/"+service+".v1.TrialService/"+method, wrapperspb.String(what), reply)
	return reply.GetValue(), err
}

// runs fails the test unless a trial plugin answers as the version.
func (h *house) runs(name, version string) {
	h.t.Helper()
	if got, err := h.call(name, "Version", ""); err != nil || got != version {
		h.t.Errorf("%s answers %q, %v; want %s", name, got, err, version)
	}
}

// files are the names of what is in the plugin directory and the store.
func (h *house) files() []string {
	h.t.Helper()
	var all []string
	for _, pattern := range []string{"store/*", "plugins/*"} {
		found, err := filepath.Glob(filepath.Join(h.data, pattern))
		must(h.t, err)
		for _, f := range found {
			all = append(all, filepath.Base(f))
		}
	}
	return all
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !is(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not seen in %s: %s", patience, what)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testLog writes to a test's log.
type testLog struct{ tb testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.tb.Logf("%s", b)
	return len(b), nil
}
