package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/queue"
)

// taken puts n items and takes them all.
func taken(tb testing.TB, q *queue.Queue[string], n int, opts ...queue.PutOption) []*queue.Item[string] {
	tb.Helper()
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprint(i)
	}
	if _, err := q.EnqueueAll(within(tb), values, opts...); err != nil {
		tb.Fatal(err)
	}
	var items []*queue.Item[string]
	for len(items) < n {
		items = append(items, must[[]*queue.Item[string]](tb)(q.DequeueBatch(within(tb), n-len(items)))...)
	}
	return items
}

// settled fails unless the contexts of all items say that they were acked.
func settled(tb testing.TB, items []*queue.Item[string]) {
	tb.Helper()
	for _, i := range items {
		if cause := context.Cause(i.Context()); !errors.Is(cause, core.ErrReleased) {
			tb.Errorf("item %q: %v", i.Value, cause)
		}
	}
}

func TestAckAllAcksMoreThanOneTransactionTakes(t *testing.T) {
	name := etcd.Prefix(t)
	q := queue.New[string](session(t), name)
	items := taken(t, q, 130)
	if err := queue.AckAll(within(t), items); err != nil {
		t.Fatal(err)
	}
	settled(t, items)
	if left := under(t, name, "out"); len(left) != 0 {
		t.Errorf("%d deliveries are left", len(left))
	}
	if err := queue.AckAll[string](within(t), nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

func TestAckAllTellsOfEachItem(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	q, other := queue.New[string](s, name), queue.New[string](s, name+"2")
	items := taken(t, q, 20)
	ack(t, items[3])
	stolen := items[7]
	key := ""
	for _, k := range under(t, name, "out") {
		if strings.HasSuffix(k, string(stolen.ID)) {
			key = k
		}
	}
	if _, err := etcd.Client(t).Delete(within(t), keyspace.Prefix("default", "queue", name)+key); err != nil {
		t.Fatal(err)
	}
	items = append(items, taken(t, other, 3)...)
	items = append(items, taken(t, q, 1, queue.Group("g"))...)
	items = append(items, taken(t, q, 1, queue.Group("h"))...)
	err := queue.AckAll(within(t), items)
	if !errors.Is(err, queue.ErrStaleDelivery) {
		t.Fatal(err)
	}
	for n, i := range items {
		if told := strings.Contains(err.Error(), string(i.ID)); told != (n == 3 || n == 7) {
			t.Errorf("item %d: told of it: %t", n, told)
		}
	}
	for _, n := range []string{name, name + "2"} {
		if left := under(t, n, "out"); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
	}
}

// TestAckAllWhoseReplyWasLost is settled by asking again, item by item.
func TestAckAllWhoseReplyWasLost(t *testing.T) {
	s, faults := faulty(t)
	name := etcd.Prefix(t)
	q := queue.New[string](s, name)
	items := taken(t, q, 60)
	lost := faults.LoseReply(coretest.Deletes("/out"))
	if err := queue.AckAll(within(t), items); err != nil {
		t.Fatal(err)
	}
	settled(t, items)
	items = taken(t, q, 60)
	lostToo := faults.LoseRequest(coretest.Deletes("/out"))
	if err := queue.AckAll(within(t), items); err != nil {
		t.Fatal(err)
	}
	settled(t, items)
	if lost.Fired() != 1 || lostToo.Fired() != 1 {
		t.Errorf("%d replies and %d requests were lost", lost.Fired(), lostToo.Fired())
	}
	if left := under(t, name, "out"); len(left) != 0 {
		t.Errorf("%d deliveries are left", len(left))
	}
	if n := depth(t, q); n != 0 {
		t.Errorf("%d items are left", n)
	}
}

// TestAckAllThatIsGivenUp leaves an outcome that nobody knows, and a second one
// tells.
func TestAckAllThatIsGivenUp(t *testing.T) {
	s, faults := faulty(t)
	name := etcd.Prefix(t)
	q := queue.New[string](s, name)
	items := taken(t, q, 20)
	hold := faults.Hold(coretest.Deletes("/out"))
	ctx, cancel := context.WithCancel(within(t))
	given := make(chan error, 1)
	go func() { given <- queue.AckAll(ctx, items) }()
	if err := hold.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-given; !errors.Is(err, core.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
	hold.Release()
	if err := queue.AckAll(within(t), items); err != nil {
		t.Errorf("again: %v", err)
	}
	settled(t, items)
	if left := under(t, name, "out"); len(left) != 0 {
		t.Errorf("%d deliveries are left", len(left))
	}
}
