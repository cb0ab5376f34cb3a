package queue_test

import (
	"context"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/queue"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd, coretest.WithChildren(children())) }

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = 60 * time.Second

func within(tb testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// session opens a session on a connection of its own, as another process would.
func session(tb testing.TB, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	s, err := core.NewSession(within(tb), etcd.Client(tb), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func put(tb testing.TB, q *queue.Queue[string], v string, opts ...queue.PutOption) queue.ID {
	tb.Helper()
	return must[queue.ID](tb)(q.Enqueue(within(tb), v, opts...))
}

func take(tb testing.TB, q *queue.Queue[string]) *queue.Item[string] {
	tb.Helper()
	return must[*queue.Item[string]](tb)(q.Dequeue(within(tb)))
}

func ack(tb testing.TB, i *queue.Item[string]) {
	tb.Helper()
	if err := i.Ack(within(tb)); err != nil {
		tb.Fatal(err)
	}
}

// wants takes items and acks them, and fails unless they are these, in order.
func wants(tb testing.TB, q *queue.Queue[string], want ...string) {
	tb.Helper()
	for n, w := range want {
		i := take(tb, q)
		if i.Value != w {
			tb.Fatalf("item %d is %q, want %q", n, i.Value, w)
		}
		ack(tb, i)
	}
}

func depth(tb testing.TB, q *queue.Queue[string]) int {
	tb.Helper()
	return must[int](tb)(q.Len(within(tb)))
}
