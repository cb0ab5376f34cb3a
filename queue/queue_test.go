package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/queue"
)

func TestItemsComeInTheOrderOfTheirEnqueue(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	var want []string
	for n := range 400 { // more than a segment
		want = append(want, fmt.Sprint(n))
	}
	for _, v := range want[:10] {
		put(t, q, v)
	}
	if _, err := q.EnqueueAll(within(t), want[10:]); err != nil {
		t.Fatal(err)
	}
	if n := depth(t, q); n != len(want) {
		t.Errorf("%d items, want %d", n, len(want))
	}
	wants(t, q, want...)
	if n := depth(t, q); n != 0 {
		t.Errorf("%d items are left", n)
	}
}

func TestPriorityGoesFirst(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	put(t, q, "c")
	put(t, q, "d")
	put(t, q, "e", queue.Priority(-128))
	put(t, q, "a", queue.Priority(127))
	put(t, q, "b", queue.Priority(1))
	wants(t, q, "a", "b", "c", "d", "e")
}

func TestAQueueNeverSeesAnotherOne(t *testing.T) {
	s, name := session(t), etcd.Prefix(t)
	jobs, jobs2 := queue.New[string](s, name), queue.New[string](s, name+"2")
	put(t, jobs2, "other's")
	put(t, queue.New[string](s, name+"/2"), "other's")
	if i, err := jobs.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("TryDequeue: %v, %v", i, err)
	}
	if n := depth(t, jobs); n != 0 {
		t.Errorf("Len %d of an empty queue", n)
	}
	wants(t, jobs2, "other's")
}

func TestTryDequeueOfAnEmptyQueue(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	if _, err := q.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("TryDequeue: %v", err)
	}
	put(t, q, "a")
	i := must[*queue.Item[string]](t)(q.TryDequeue(within(t)))
	if _, err := q.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("TryDequeue of a queue whose item is delivered: %v", err)
	}
	ack(t, i)
}

func TestDequeueWaits(t *testing.T) {
	name := etcd.Prefix(t)
	q, producer := queue.New[string](session(t), name), queue.New[string](session(t), name)
	for n := range 5 {
		got := make(chan *queue.Item[string], 1)
		go func() {
			i, err := q.Dequeue(within(t))
			if err != nil {
				t.Error(err)
			}
			got <- i
		}()
		put(t, producer, fmt.Sprint(n))
		if i := <-got; i.Value != fmt.Sprint(n) {
			t.Errorf("got %q, want %d", i.Value, n)
		} else {
			ack(t, i)
		}
	}
}

func TestDequeueEndsWithItsContext(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := q.Dequeue(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Dequeue: %v", err)
	}
	put(t, q, "a")
	wants(t, q, "a")
}

func TestAckCommitsItsEffectsOrNothing(t *testing.T) {
	s, name := session(t), etcd.Prefix(t)
	q := queue.New[string](s, name, queue.WithVisibility(queue.MinVisibility))
	effect := "/" + name + "/effect"
	put(t, q, "a")
	first := take(t, q)
	<-first.Context().Done() // its time is over
	if cause := context.Cause(first.Context()); !errors.Is(cause, queue.ErrStaleDelivery) || !errors.Is(cause, core.ErrRevoked) {
		t.Errorf("cause %v", cause)
	}
	second := take(t, q)
	if second.ID != first.ID || second.Attempt != 2 || second.Token() <= first.Token() {
		t.Errorf("second delivery %+v, token %d after %d", second, second.Token(), first.Token())
	}
	if err := first.Ack(within(t), clientv3.OpPut(effect, "late")); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("late Ack: %v", err)
	}
	if kvs := etcd.Dump(t, effect); len(kvs) != 0 {
		t.Errorf("a late ack wrote %v", kvs)
	}
	if err := second.Extend(within(t), time.Minute); err != nil {
		t.Error(err)
	}
	if err := second.Ack(within(t), clientv3.OpPut(effect, "once")); err != nil {
		t.Fatal(err)
	}
	if kvs := etcd.Dump(t, effect); len(kvs) != 1 || kvs[0].Version != 1 || string(kvs[0].Value) != "once" {
		t.Errorf("effects %v", kvs)
	}
	if err := second.Ack(within(t)); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("second Ack: %v", err)
	}
	if n := depth(t, q); n != 0 {
		t.Errorf("%d items are left", n)
	}
}

func TestExtendKeepsADelivery(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t), queue.WithVisibility(200*time.Millisecond))
	put(t, q, "a")
	i := take(t, q)
	for range 5 {
		if err := i.Extend(within(t), time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if other, err := q.Dequeue(ctx); err == nil {
		t.Errorf("delivered again as %+v while its delivery was extended", other)
	}
	ack(t, i)
}

func TestNackReturnsToTheFrontOrLater(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	for _, v := range []string{"a", "b", "c"} {
		put(t, q, v)
	}
	a := take(t, q)
	if err := a.Nack(within(t), 0); err != nil {
		t.Fatal(err)
	}
	again := take(t, q)
	if again.Value != "a" || again.Attempt != 2 {
		t.Fatalf("after Nack: %q, attempt %d", again.Value, again.Attempt)
	}
	if err := again.NackReason(within(t), 300*time.Millisecond, "not now"); err != nil {
		t.Fatal(err)
	}
	if s := must[queue.Stats](t)(q.Stats(within(t))); s.Delayed != 1 || s.Ready != 2 {
		t.Errorf("stats %+v", s)
	}
	wants(t, q, "b", "c")
	last := take(t, q)
	if last.Value != "a" || last.Attempt != 3 || last.Reason != "not now" {
		t.Errorf("after the delay: %+v", last)
	}
	ack(t, last)
}

func TestDelay(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	began := time.Now()
	put(t, q, "later", queue.Delay(400*time.Millisecond))
	put(t, q, "now")
	wants(t, q, "now", "later")
	if d := time.Since(began); d < 400*time.Millisecond {
		t.Errorf("delivered after %v", d)
	}
}

func TestDedup(t *testing.T) {
	name := etcd.Prefix(t)
	q, other := queue.New[string](session(t), name), queue.New[string](session(t), name)
	first := put(t, q, "a", queue.DedupID("one"))
	if again := put(t, other, "b", queue.DedupID("one")); again != first {
		t.Errorf("ID %s, want that of the first, %s", again, first)
	}
	put(t, q, "c", queue.DedupID("two"))
	wants(t, q, "a", "c")
	if again := put(t, q, "d", queue.DedupID("one")); again != first {
		t.Errorf("after the ack: ID %s, want %s", again, first)
	}
	if n := depth(t, q); n != 0 {
		t.Errorf("%d items", n)
	}
}

func TestCapacityIsExact(t *testing.T) {
	name := etcd.Prefix(t)
	q := queue.New[string](session(t), name, queue.WithCapacity(10))
	other := queue.New[string](session(t), name, queue.WithCapacity(10))
	for n := range 10 {
		put(t, []*queue.Queue[string]{q, other}[n%2], fmt.Sprint(n))
	}
	for _, p := range []*queue.Queue[string]{q, other} {
		if _, err := p.Enqueue(within(t), "too many"); !errors.Is(err, queue.ErrFull) {
			t.Errorf("Enqueue into a full queue: %v", err)
		}
	}
	i := take(t, q)
	if _, err := q.Enqueue(within(t), "too many"); !errors.Is(err, queue.ErrFull) {
		t.Errorf("while an item is delivered: %v", err)
	}
	waited := make(chan error, 1)
	go func() {
		_, err := other.Enqueue(within(t), "waited", queue.WaitForRoom())
		waited <- err
	}()
	ack(t, i)
	if err := <-waited; err != nil {
		t.Errorf("WaitForRoom: %v", err)
	}
	if n := depth(t, q); n != 10 {
		t.Errorf("%d items, want 10", n)
	}
	wants(t, q, "1", "2", "3", "4", "5", "6", "7", "8", "9", "waited")
}

// A repeated enqueue needs no room: what it enqueues is there.
func TestRepeatedIntoAFullQueue(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t), queue.WithCapacity(1))
	id := must[queue.ID](t)(q.Enqueue(within(t), "x", queue.DedupID("d")))
	for _, opts := range [][]queue.PutOption{{queue.DedupID("d")}, {queue.DedupID("d"), queue.WaitForRoom()}} {
		if again := must[queue.ID](t)(q.Enqueue(within(t), "x", opts...)); again != id {
			t.Errorf("it is %s, was %s", again, id)
		}
	}
	if _, err := q.Enqueue(within(t), "x", queue.DedupID("other")); !errors.Is(err, queue.ErrFull) {
		t.Errorf("another one: %v", err)
	}
}

func TestDeadLetters(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t), queue.WithMaxAttempts(2))
	id := put(t, q, "poison")
	for attempt := range 2 {
		if err := take(t, q).NackReason(within(t), 0, fmt.Sprint("failure ", attempt+1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := q.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Fatalf("after all attempts: %v", err)
	}
	dead := q.DeadLetters()
	entries := must[[]queue.Entry[string]](t)(dead.Peek(within(t), 10))
	if len(entries) != 1 || entries[0].ID != id || entries[0].Value != "poison" || entries[0].Attempts != 2 ||
		entries[0].Reason != "attempt 2 of 2: failure 2" {
		t.Fatalf("dead letters %+v", entries)
	}
	if s := must[queue.Stats](t)(q.Stats(within(t))); s.Dead != 1 || s.Depth() != 0 {
		t.Errorf("stats %+v", s)
	}
	if n := must[int](t)(dead.Requeue(within(t), id)); n != 1 {
		t.Fatalf("%d were put back", n)
	}
	i := take(t, q)
	if i.ID != id || i.Attempt != 1 {
		t.Errorf("requeued: %+v", i)
	}
	if err := i.Reject(within(t), "no use"); err != nil {
		t.Fatal(err)
	}
	d := take(t, dead)
	if d.Value != "poison" || d.Reason != "no use" {
		t.Errorf("from the dead letters: %+v", d)
	}
	ack(t, d)
	if n := depth(t, dead); n != 0 {
		t.Errorf("%d dead letters are left", n)
	}
}

func TestPauseAndResume(t *testing.T) {
	name := etcd.Prefix(t)
	q, operator := queue.New[string](session(t), name), queue.New[string](session(t), name)
	put(t, q, "a")
	if err := operator.Pause(within(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := q.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("while paused: %v", err)
	}
	got := make(chan string, 1)
	go func() {
		i, err := q.Dequeue(within(t))
		if err != nil {
			t.Error(err)
			return
		}
		got <- i.Value
	}()
	if s := must[queue.Stats](t)(q.Stats(within(t))); !s.Paused {
		t.Errorf("stats %+v", s)
	}
	if err := operator.Resume(within(t)); err != nil {
		t.Fatal(err)
	}
	if v := <-got; v != "a" {
		t.Errorf("got %q", v)
	}
}

func TestPeekTakesNothing(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	var all []string
	for n := range 500 {
		all = append(all, fmt.Sprint(n))
	}
	if _, err := q.EnqueueAll(within(t), all); err != nil {
		t.Fatal(err)
	}
	put(t, q, "urgent", queue.Priority(1))
	var got []string
	for _, e := range must[[]queue.Entry[string]](t)(q.Peek(within(t), 450)) {
		got = append(got, e.Value)
	}
	if want := append([]string{"urgent"}, all[:449]...); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("peeked %v", got)
	}
	if n := depth(t, q); n != 501 {
		t.Errorf("%d items", n)
	}
}

func TestGroupsAreDoneInOrderOneAtATime(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	for n := range 3 {
		for _, g := range []string{"x", "y"} {
			put(t, q, fmt.Sprint(g, n), queue.Group(g))
		}
	}
	if _, err := q.EnqueueAll(within(t), []string{"x3", "x4"}, queue.Group("x")); err != nil {
		t.Fatal(err)
	}
	x, y := take(t, q), take(t, q)
	if x.Value != "x0" || y.Value != "y0" {
		t.Fatalf("first %q, %q", x.Value, y.Value)
	}
	if i, err := q.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Fatalf("a third item %v while one of each group is delivered: %v", i, err)
	}
	if s := must[queue.Stats](t)(q.Stats(within(t))); s.Blocked != 6 || s.InFlight != 2 {
		t.Errorf("stats %+v", s)
	}
	if err := x.Nack(within(t), 0); err != nil {
		t.Fatal(err)
	}
	wants(t, q, "x0", "x1")
	ack(t, y)
	wants(t, q, "y1", "x2", "y2", "x3", "x4")
	put(t, q, "x5", queue.Group("x"))
	wants(t, q, "x5")
}

func TestAPipelineOfThreeQueues(t *testing.T) {
	s, name := session(t), etcd.Prefix(t)
	a, b, c := queue.New[string](s, name+"/a"), queue.New[string](s, name+"/b"), queue.New[string](s, name+"/c")
	put(t, a, "v")
	for _, hop := range []struct{ from, to *queue.Queue[string] }{{a, b}, {b, c}} {
		i := take(t, hop.from)
		op, err := queue.EnqueueOp(hop.to, i.Value+"+", queue.DedupID(string(i.ID)))
		if err != nil {
			t.Fatal(err)
		}
		if err := i.Ack(within(t), op); err != nil {
			t.Fatal(err)
		}
		if n := depth(t, hop.from) + depth(t, hop.to); n != 1 {
			t.Errorf("%d items in two queues", n)
		}
	}
	if i := must[*queue.Item[string]](t)(c.TryDequeue(within(t))); i.Value != "v++" {
		t.Errorf("at the end: %q", i.Value)
	}
}

func TestEnqueueOpInAnotherTransaction(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	op := must[clientv3.Op](t)(queue.EnqueueOp(q, "outbox"))
	if _, err := etcd.Client(t).Txn(within(t)).Then(op, clientv3.OpPut("/order", "1")).Commit(); err != nil {
		t.Fatal(err)
	}
	wants(t, q, "outbox")
}

func TestListKnowsTheQueues(t *testing.T) {
	ns := strings.ReplaceAll(etcd.Prefix(t), "/", "-")
	s := session(t, core.WithNamespace(ns))
	for _, name := range []string{"b", "a/x", "a/y"} {
		put(t, queue.New[string](s, name), "v")
	}
	if got := must[[]string](t)(queue.List(within(t), s.Client(), ns, "a/")); fmt.Sprint(got) != "[a/x a/y]" {
		t.Errorf("List: %v", got)
	}
}
