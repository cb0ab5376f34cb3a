package barrier_test

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/scope"
	barrierrecipe "github.com/conclavehq/conclave/recipes/barrier"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) {
	recipetest.Dispatch(barrierrecipe.Recipe{})
	coretest.Main(m, &etcd)
}

func within(tb testing.TB) context.Context {
	tb.Helper()
	return servicetest.Context(tb)
}

// A host runs the recipe.
type host struct {
	barrierv1.BarrierServiceClient
	*servicetest.Host
}

func startHost(tb testing.TB) *host {
	tb.Helper()
	h := servicetest.Start(tb, barrierrecipe.Recipe{}, scope.FromClient(etcd.Client(tb)), nil)
	return &host{barrierv1.NewBarrierServiceClient(h.Conn), h}
}

// A caller is somebody with a session of a host.
type caller struct {
	id  string
	ctx context.Context // of the caller's calls
	s   *core.Session   // whoever keeps the lease alive
}

// open opens a session as a host's SessionService would.
func open(tb testing.TB, owner string) *caller {
	tb.Helper()
	s, err := core.NewSession(within(tb), etcd.Client(tb), core.WithOwner(owner))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	id, ctx := servicetest.Calling(tb, s)
	return &caller{id: id, s: s, ctx: ctx}
}

// want checks an error's code and reason.
func want(tb testing.TB, err error, code codes.Code, reason string) {
	tb.Helper()
	servicetest.Want(tb, err, code, reason)
}

// must returns what a call answered, and ends the test if that was an error.
func must[T any](tb testing.TB) func(T, error) T { return servicetest.Must[T](tb) }

// An answer is what a call in the background was answered.
type answer[T any] struct {
	resp T
	err  error
}

func background[T any](call func() (T, error)) <-chan answer[T] {
	answers := make(chan answer[T], 1)
	go func() {
		resp, err := call()
		answers <- answer[T]{resp, err}
	}()
	return answers
}

// there waits until so many stand under a part of a name's keys.
func there(tb testing.TB, name, part string, n int) {
	tb.Helper()
	ctx := within(tb)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := etcd.Client(tb).Get(ctx, "/conclave/default/barrier/"+name+"/"+part, clientv3.WithPrefix(), clientv3.WithCountOnly())
		if err != nil {
			tb.Fatal(err)
		}
		if int(resp.Count) == n {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("%d under %s, want %d", resp.Count, part, n)
		}
	}
}

// nameOf returns a name of the test's own.
func nameOf(tb testing.TB) string {
	return strings.Trim(strings.ReplaceAll(etcd.Prefix(tb), "/", "-"), "-")
}
