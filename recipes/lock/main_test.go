package lock_test

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
	lockrecipe "github.com/conclavehq/conclave/recipes/lock"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) {
	recipetest.Dispatch(lockrecipe.Recipe{})
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "" {
		os.Exit(m.Run()) // etcd's own lock service leaves goroutines behind
	}
	coretest.Main(m, &etcd)
}

// lockGrace is how long holders have who let go by themselves: long, so that
// nothing depends on it.
const lockGrace = 10 * time.Second

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	return servicetest.Context(tb)
}

// A host runs the recipe.
type host struct {
	lockv1.LockServiceClient
	*servicetest.Host
}

func startHost(tb testing.TB, c *clientv3.Client, cfg *lockv1.Config) *host {
	tb.Helper()
	return startHostOn(tb, scope.FromClient(c), cfg)
}

func startHostOn(tb testing.TB, back scope.Backend, cfg *lockv1.Config) *host {
	tb.Helper()
	h := servicetest.Start(tb, lockrecipe.Recipe{}, back, cfg)
	return &host{lockv1.NewLockServiceClient(h.Conn), h}
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
	id, ctx := servicetest.Calling(tb, s)
	return &caller{id: id, lease: s.Lease(), s: s, ctx: ctx}
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
	servicetest.Want(tb, err, code, reason)
}

// eventually waits until something is so.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	servicetest.Eventually(tb, what, ok)
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
