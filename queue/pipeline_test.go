package queue_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/queue"
)

// drained takes all items of a queue, some at a time, acks them, and returns their
// values in the order of their delivery.
func drained(t *testing.T, q *queue.Queue[string], batch, n int) (got []string) {
	t.Helper()
	for len(got) < n {
		items, err := q.DequeueBatch(within(t), batch)
		if err != nil {
			t.Fatalf("after %d items: %v", len(got), err)
		}
		for _, i := range items {
			got = append(got, i.Value)
		}
		if err := queue.AckAll(within(t), items); err != nil {
			t.Fatal(err)
		}
	}
	if i, err := q.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("after all of them: %v, %v", i, err)
	}
	return got
}

// filled enqueues values, and returns them.
func filled(t *testing.T, q *queue.Queue[string], name string, n int, opts ...queue.PutOption) (values []string) {
	t.Helper()
	for k := range n {
		values = append(values, fmt.Sprint(name, k))
	}
	for batch := range slices.Chunk(values, 500) {
		if _, err := q.EnqueueAll(within(t), batch, opts...); err != nil {
			t.Fatal(err)
		}
	}
	return values
}

// TestClaimsAtOnceKeepTheOrder: several are under way for one who takes many.
func TestClaimsAtOnceKeepTheOrder(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	want := filled(t, q, "", 2000)
	if got := drained(t, q, 400, len(want)); !slices.Equal(got, want) {
		t.Errorf("delivered out of order: %q", got)
	}
}

// TestClaimsAtOnceWhoseReplyWasLost: of one of them, whose items come once, and
// in their place.
func TestClaimsAtOnceWhoseReplyWasLost(t *testing.T) {
	s, faults := faulty(t)
	name := etcd.Prefix(t)
	q := queue.New[string](s, name)
	want := filled(t, q, "", 600)
	lost, never := faults.LoseReply(coretest.Puts("/out")), faults.LoseRequest(coretest.Puts("/out"))
	if got := drained(t, q, 400, len(want)); !slices.Equal(got, want) {
		t.Errorf("delivered: %q", got)
	}
	if lost.Fired() != 1 || never.Fired() != 1 {
		t.Errorf("%d replies and %d requests were lost", lost.Fired(), never.Fired())
	}
	if left := under(t, name, "out"); len(left) != 0 {
		t.Errorf("deliveries of nobody: %q", left)
	}
}

// TestAllOfAPriorityGoFirst: also where there are more of them than one look
// reads.
func TestAllOfAPriorityGoFirst(t *testing.T) {
	for _, batch := range []int{1, 100} {
		t.Run(fmt.Sprint("batch=", batch), func(t *testing.T) {
			q := queue.New[string](session(t), etcd.Prefix(t))
			low := filled(t, q, "low", 300)
			high := filled(t, q, "high", 700, queue.Priority(1))
			if got := drained(t, q, batch, len(low)+len(high)); !slices.Equal(got, slices.Concat(high, low)) {
				t.Errorf("delivered out of order: %q", got)
			}
		})
	}
}

// TestPeekSeesPrioritiesInOrder, as they will be delivered, and what was returned
// to the front before the rest of its priority.
func TestPeekSeesPrioritiesInOrder(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	low := filled(t, q, "low", 200)
	high := filled(t, q, "high", 400, queue.Priority(1))
	items, err := q.DequeueBatch(within(t), 200)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range items {
		if err := i.Nack(within(t), 0); err != nil {
			t.Fatal(err)
		}
	}
	seen, err := q.Peek(within(t), 550)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, i := range seen {
		values = append(values, i.Value)
	}
	if want := slices.Concat(high, low)[:550]; !slices.Equal(values, want) {
		t.Errorf("Peek: %q", values)
	}
	if got := drained(t, q, 100, len(low)+len(high)); !slices.Equal(got, slices.Concat(high, low)) {
		t.Errorf("delivered out of order: %q", got)
	}
}
