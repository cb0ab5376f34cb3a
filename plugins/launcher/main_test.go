//go:build unix

package launcher_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins"
	"github.com/conclavehq/conclave/plugins/launcher"
	"github.com/conclavehq/conclave/recipes/lock"
)

var etcd *coretest.Etcd

// TestMain is also the main of the plugins that the tests start: this program, with
// the name of one as its argument.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "plugin" {
		serve(os.Args[2])
	}
	coretest.Main(m, &etcd)
}

func serve(name string) {
	switch name {
	case "lock":
		plugins.Serve(lock.Recipe{})
	case "trial":
		v := os.Getenv("TRIAL_VERSION")
		if v == "" {
			v = "1.0.0"
		}
		plugins.Serve(trial{version: v})
	case "host":
		hostMain(os.Args[3])
	case "bare":
		bareMain(os.Args[3])
	default:
		misbehave(name)
	}
}

// patience is for what happens soon; only a failure waits for it.
const patience = 60 * time.Second

func background() context.Context { return context.Background() }

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// self returns a Spec that starts this program as one of its plugins.
func self(tb testing.TB, name string, r recipe.Recipe) launcher.Spec {
	tb.Helper()
	d, err := plugins.Describe(r)
	if err != nil {
		tb.Fatal(err)
	}
	path, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	return launcher.Spec{Name: d.GetName(), Version: d.GetVersion(), Summary: d.GetSummary(), Path: path, Args: []string{"plugin", name},
		Descriptors: d.GetDescriptors(), Services: d.GetServices(), Config: d.GetConfig()}
}

// newLauncher returns a launcher that ends with the test.
func newLauncher(tb testing.TB, cfg launcher.Config) *launcher.Launcher {
	tb.Helper()
	l := launcher.New(cfg)
	tb.Cleanup(func() {
		if err := l.Close(within(tb)); err != nil {
			tb.Error(err)
		}
	})
	return l
}

// run starts a host with a plugin, which ends with the test.
func run(tb testing.TB, cfg launcher.Config, s launcher.Spec) (*host.Host, *launcher.Plugin) {
	tb.Helper()
	l := newLauncher(tb, cfg)
	p, err := l.Plugin(s)
	if err != nil {
		tb.Fatal(err)
	}
	return startHost(tb, p), p
}

func startHost(tb testing.TB, r ...recipe.Recipe) *host.Host {
	tb.Helper()
	return startHostOn(tb, etcd.Endpoint(), r...)
}

func startHostOn(tb testing.TB, endpoint string, r ...recipe.Recipe) *host.Host {
	tb.Helper()
	opts := []host.Option{host.WithLogger(slog.New(slog.NewTextHandler(testLog{tb}, &slog.HandlerOptions{Level: slog.LevelWarn})))}
	for _, r := range r {
		opts = append(opts, host.WithRecipe(r))
	}
	h, err := host.New(host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: []string{endpoint}}}, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	if err := h.Start(within(tb)); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.Stop(within(tb)); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// testLog writes to a test's log.
type testLog struct{ tb testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.tb.Logf("%s", b)
	return len(b), nil
}

// connect returns a gRPC connection to the host.
func connect(tb testing.TB, h *host.Host) *grpc.ClientConn {
	tb.Helper()
	c, err := grpc.NewClient(h.API()[len("http://"):], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// do asks the trial recipe to do something.
func do(ctx context.Context, c *grpc.ClientConn, what string) (string, error) {
	reply := new(wrapperspb.StringValue)
	err := c.Invoke(ctx, "/trial.v1.TrialService/Do", wrapperspb.String(what), reply)
	return reply.GetValue(), err
}

// becomes waits until a plugin is in a state.
func becomes(tb testing.TB, p *launcher.Plugin, s recipe.State) launcher.Status {
	tb.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		now := p.Status()
		if now.State == s {
			return now
		}
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("the plugin is %s (%s), and not %s", now.State, now.Detail, s)
		}
	}
}
