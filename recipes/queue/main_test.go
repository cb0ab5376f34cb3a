package queue_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	queuerecipe "github.com/conclavehq/conclave/recipes/queue"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds every wait; a test that reaches it fails.
const patience = 2 * time.Minute

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// A host runs the recipe behind gRPC, as a host does, on a client that may touch
// the recipe's keys only.
type host struct {
	queuev1.QueueServiceClient

	instance recipe.Instance
	server   *grpc.Server
	stopped  bool
}

func startHost(tb testing.TB) *host {
	tb.Helper()
	space, err := scope.New(scope.FromClient(etcd.Client(tb)), "queue", nil)
	if err != nil {
		tb.Fatal(err)
	}
	env := recipe.NewEnv("queue", space.Client(), nil, nil)
	h := &host{server: grpc.NewServer()}
	if h.instance, err = (queuerecipe.Recipe{}).Open(within(tb), env, h.server); err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	h.QueueServiceClient = queuev1.NewQueueServiceClient(conn)
	tb.Cleanup(func() {
		_ = conn.Close()
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
	tb.Helper()
	if h.stopped {
		return
	}
	h.stopped = true
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.instance.Close(ctx); err != nil {
		tb.Errorf("close the instance: %v", err)
	}
	h.server.GracefulStop()
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
	c := recipe.Caller{Session: "session-" + owner, Lease: s.Lease(), TTL: s.TTL(), Owner: owner, Namespace: s.Namespace()}
	return &caller{id: c.Session, s: s, ctx: metadata.NewOutgoingContext(within(tb), c.Metadata())}
}

// want checks an error's code and reason.
func want(tb testing.TB, err error, code codes.Code, reason string) {
	tb.Helper()
	if status.Code(err) != code || recipe.Reason(err) != reason {
		tb.Fatalf("error is %v with the reason %q, want %v with %q", err, recipe.Reason(err), code, reason)
	}
}

// must returns what a call answered, and ends the test if that was an error.
func must[T any](tb testing.TB) func(T, error) T {
	return func(answer T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return answer
	}
}

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
