package queue_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
	queuerecipe "github.com/conclavehq/conclave/recipes/queue"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) {
	recipetest.Dispatch(queuerecipe.Recipe{})
	coretest.Main(m, &etcd)
}

func within(tb testing.TB) context.Context {
	tb.Helper()
	return servicetest.Context(tb)
}

// A host runs the recipe.
type host struct {
	queuev1.QueueServiceClient
	*servicetest.Host
}

func startHost(tb testing.TB) *host {
	tb.Helper()
	h := servicetest.Start(tb, queuerecipe.Recipe{}, scope.FromClient(etcd.Client(tb)), nil)
	return &host{queuev1.NewQueueServiceClient(h.Conn), h}
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

// nameOf returns a name of the test's own.
func nameOf(tb testing.TB) string {
	return strings.Trim(strings.ReplaceAll(etcd.Prefix(tb), "/", "-"), "-")
}
