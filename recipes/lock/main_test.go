package lock_test

import (
	"context"
	"flag"
	"net"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/lock"
	lockrecipe "github.com/conclavehq/conclave/recipes/lock"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) {
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "" {
		os.Exit(m.Run()) // etcd's own lock service leaves goroutines behind
	}
	coretest.Main(m, &etcd)
}

// patience bounds every wait; a test that reaches it fails.
const patience = 2 * time.Minute

// lockGrace is how long holders have who let go by themselves: long, so that
// nothing depends on it.
const lockGrace = 10 * time.Second

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// A host runs the recipe behind gRPC, as a host does, on a client that may touch
// the recipe's keys only.
type host struct {
	lockv1.LockServiceClient

	addr     string
	instance recipe.Instance
	server   *grpc.Server
	stopped  bool
}

func startHost(tb testing.TB, c *clientv3.Client, cfg *lockv1.Config) *host {
	tb.Helper()
	return startHostOn(tb, scope.FromClient(c), cfg)
}

func startHostOn(tb testing.TB, back scope.Backend, cfg *lockv1.Config) *host {
	tb.Helper()
	space, err := scope.New(back, "lock", nil)
	if err != nil {
		tb.Fatal(err)
	}
	env := recipe.NewEnv("lock", space.Client(), cfg, nil)
	h := &host{server: grpc.NewServer()}
	if h.instance, err = (lockrecipe.Recipe{}).Open(testContext(tb), env, h.server); err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(l) }()
	h.LockServiceClient = lockv1.NewLockServiceClient(dial(tb, h.addr))
	tb.Cleanup(func() {
		h.stop(tb)
		if err := <-done; err != nil {
			tb.Error(err)
		}
		env.Close()
		if err := space.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// stop ends the host as an orderly host ends.
func (h *host) stop(tb testing.TB) {
	if h.stopped {
		return
	}
	h.stopped = true
	h.stopInstance(tb)
	h.server.GracefulStop()
}

// stopInstance closes the recipe's instance. It is idempotent.
func (h *host) stopInstance(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.instance.Close(ctx); err != nil {
		tb.Errorf("close the instance: %v", err)
	}
}

func dial(tb testing.TB, addr string) *grpc.ClientConn {
	tb.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A caller is somebody with a session of a host.
type caller struct {
	id    string
	lease clientv3.LeaseID
	ctx   context.Context // of the caller's calls
	s     *core.Session   // whoever keeps the lease alive
}

// open opens a session as a host's SessionService would.
func open(tb testing.TB, owner, namespace string) *caller {
	tb.Helper()
	return openOn(tb, etcd, owner, namespace)
}

func openOn(tb testing.TB, e *coretest.Etcd, owner, namespace string) *caller {
	tb.Helper()
	return callerOf(tb, sessionOn(tb, e, owner, namespace))
}

func callerOf(tb testing.TB, s *core.Session) *caller {
	tb.Helper()
	c := recipe.Caller{Session: "session-" + s.Owner(), Lease: s.Lease(), TTL: s.TTL(), Owner: s.Owner(), Namespace: s.Namespace()}
	return &caller{id: c.Session, lease: c.Lease, s: s, ctx: metadata.NewOutgoingContext(testContext(tb), c.Metadata())}
}

// session opens a session of a user of the library.
func session(tb testing.TB, owner, namespace string, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	return sessionOn(tb, etcd, owner, namespace, opts...)
}

func sessionOn(tb testing.TB, e *coretest.Etcd, owner, namespace string, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	s, err := core.NewSession(testContext(tb), e.Client(tb), append(opts, core.WithOwner(owner), core.WithNamespace(namespace))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func locked(tb testing.TB, s *core.Session, name string, opts ...lock.Option) *lock.Held {
	tb.Helper()
	h, err := lock.NewMutex(s, name, opts...).Lock(testContext(tb))
	if err != nil {
		tb.Fatal(err)
	}
	return h
}

// want checks an error's code and reason.
func want(tb testing.TB, err error, code codes.Code, reason string) {
	tb.Helper()
	if status.Code(err) != code || recipe.Reason(err) != reason {
		tb.Fatalf("error is %v with the reason %q, want %v with %q", err, recipe.Reason(err), code, reason)
	}
}

// eventually waits until something is so.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("still not so: %s", what)
		}
	}
}

// namespace returns a namespace of the test's own.
func namespace(tb testing.TB) string {
	tb.Helper()
	p := []byte(etcd.Prefix(tb))
	for i := range p {
		if p[i] == '/' {
			p[i] = '-'
		}
	}
	return string(p)
}
