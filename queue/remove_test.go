package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/workqueue"
	"github.com/conclavehq/conclave/queue"
)

// isListed reports whether there is a queue of that name.
func isListed(t *testing.T, s *core.Session, name string) bool {
	t.Helper()
	return slices.Contains(must[[]string](t)(queue.List(within(t), s.Client(), "default", name)), name)
}

// done consumes a queue under a session of its own, which it closes.
func done(t *testing.T, name string, want ...string) {
	t.Helper()
	s := session(t)
	wants(t, queue.New[string](s, name), want...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRemoveRefusesAQueueThatIsInUse(t *testing.T) {
	s := session(t)
	for what, use := range map[string]func(t *testing.T, q *queue.Queue[string]){
		"1 item": func(t *testing.T, q *queue.Queue[string]) { put(t, q, "v") },
		"2 items": func(t *testing.T, q *queue.Queue[string]) {
			put(t, q, "v", queue.Group("g"))
			put(t, q, "w", queue.Group("g"))
		},
		"1 item, 1 consumer": func(t *testing.T, q *queue.Queue[string]) { put(t, q, "v"); take(t, q) },
		"1 consumer":         func(t *testing.T, q *queue.Queue[string]) { put(t, q, "v"); wants(t, q, "v") },
		"1 dead letter": func(t *testing.T, q *queue.Queue[string]) {
			put(t, q, "v")
			if err := take(t, q).Reject(within(t), "no"); err != nil {
				t.Fatal(err)
			}
		},
		"1 item ": func(t *testing.T, q *queue.Queue[string]) { put(t, q, "v", queue.Delay(1<<40)) },
		"1 item  ": func(t *testing.T, q *queue.Queue[string]) {
			put(t, q, "v")
			done(t, q.Name(), "v")
			op := must[clientv3.Op](t)(queue.EnqueueOp(q, "asked"))
			if _, err := s.Client().Do(within(t), op); err != nil {
				t.Fatal(err)
			}
		},
		"1001 dedup ids": func(t *testing.T, q *queue.Queue[string]) {
			put(t, q, "v")
			done(t, q.Name(), "v")
			for n := range 1001 { // of a long life, as others put them
				if _, err := s.Client().Put(within(t), workqueue.Root("default", q.Name())+fmt.Sprintf("dedup/%d", n), "x"); err != nil {
					t.Fatal(err)
				}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			q := queue.New[string](session(t), etcd.Prefix(t))
			use(t, q)
			before := under(t, q.Name(), "")
			if err := q.Remove(within(t)); !errors.Is(err, queue.ErrInUse) || !strings.Contains(err.Error(), strings.TrimSpace(what)) {
				t.Errorf("Remove: %v", err)
			}
			if after := under(t, q.Name(), ""); !slices.Equal(after, before) || !isListed(t, s, q.Name()) {
				t.Errorf("something was changed: %q", after)
			}
		})
	}
}

// A queue that was removed is gone with all that it remembered, but for its numbers, and
// comes to be anew for producers and consumers who knew the old one.
func TestRemove(t *testing.T) {
	s := session(t)
	q := queue.New[string](s, etcd.Prefix(t), queue.WithCapacity(1000))
	if err := q.Remove(within(t)); !errors.Is(err, queue.ErrNoQueue) {
		t.Errorf("one that is not there: %v", err)
	}
	for range 3 {
		const items = 300 // of several segments
		var all []string
		for n := range items {
			all = append(all, fmt.Sprint(n))
		}
		must[[]queue.ID](t)(q.EnqueueAll(within(t), all))
		put(t, q, "once", queue.DedupID("id"))
		done(t, q.Name(), append(all, "once")...)
		if err := q.Pause(within(t)); err != nil {
			t.Fatal(err)
		}
		until(t, func() bool { return len(under(t, q.Name(), "here/")) == 0 })
		if err := q.Remove(within(t)); err != nil {
			t.Fatal(err)
		}
		for _, key := range under(t, q.Name(), "") {
			if !strings.HasPrefix(key, "lane/") && !strings.HasPrefix(key, "head/") && key != "removed" {
				t.Errorf("left: %s", key)
			}
		}
		if isListed(t, s, q.Name()) {
			t.Error("it is still listed")
		}
		if err := q.Remove(within(t)); !errors.Is(err, queue.ErrNoQueue) {
			t.Errorf("a second time: %v", err)
		}
	}
	put(t, q, "new", queue.DedupID("id"))
	if !isListed(t, s, q.Name()) {
		t.Error("the new one is not listed")
	}
	done(t, q.Name(), "new")
	if err := q.DeadLetters().Remove(within(t)); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("dead letters alone: %v", err)
	}
}

// An enqueue that was sent before a removal is not applied after it.
func TestAnEnqueueThatArrivesAfterTheRemoval(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	put(t, q, "first", queue.DedupID("first"))
	late := faults.Late(coretest.Puts("/in/lane/"))
	put(t, q, "twice", queue.DedupID("twice")) // repeated: the reply to the first was lost
	done(t, q.Name(), "first", "twice")
	until(t, func() bool { return len(under(t, q.Name(), "here/")) == 0 })
	if err := q.Remove(within(t)); err != nil {
		t.Fatal(err)
	}
	put(t, queue.New[string](session(t), q.Name()), "new") // it is listed again, and its lane is the same
	done(t, q.Name(), "new")
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	if n := depth(t, q); n != 0 {
		t.Errorf("%d items came after it", n)
	}
}

// An enqueue that may have been applied is not repeated in a queue that has forgotten it,
// whether all of the removal has happened or only its dedup keys are gone.
func TestAnEnqueueInDoubtWhenItsDedupIDIsForgotten(t *testing.T) {
	for what, forget := range map[string]func(t *testing.T, name string){
		"a removal": func(t *testing.T, name string) {
			until(t, func() bool { return len(under(t, name, "here/")) == 0 })
			if err := queue.New[string](session(t), name).Remove(within(t)); err != nil {
				t.Fatal(err)
			}
		},
		"a forced removal that is refused in the end": func(t *testing.T, name string) {
			s, faults := faulty(t)
			for n := range 1001 {
				if _, err := s.Client().Put(within(t), workqueue.Root("default", name)+fmt.Sprintf("dedup/z%d", n), "x"); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithCancel(within(t))
			held := faults.Hold(coretest.Deletes("/fill"))
			answer := make(chan error, 1)
			go func() { _, err := queue.New[string](s, name).Destroy(ctx); answer <- err }()
			if err := held.Wait(within(t)); err != nil {
				t.Fatal(err)
			}
			cancel()
			if err := <-answer; err == nil {
				t.Fatal("it was removed")
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			s, faults := faulty(t)
			q := queue.New[string](s, etcd.Prefix(t))
			put(t, q, "first")
			lost := faults.LoseReply(coretest.Puts("/in/lane/"))
			held := faults.Hold(coretest.Puts("/in/lane/")) // its repetition
			answer := make(chan error, 1)
			go func() { _, err := q.Enqueue(within(t), "once", queue.DedupID("a")); answer <- err }()
			if err := held.Wait(within(t)); err != nil || lost.Fired() != 1 {
				t.Fatalf("%v, %d replies were lost", err, lost.Fired())
			}
			done(t, q.Name(), "first", "once")
			forget(t, q.Name())
			held.Release()
			if err := <-answer; !errors.Is(err, core.ErrUnknownOutcome) {
				t.Errorf("Enqueue: %v", err)
			}
			if n := depth(t, q); n != 0 {
				t.Errorf("%d items were put a second time", n)
			}
		})
	}
}

// full puts something of everything into a queue, and returns how much.
func full(t *testing.T, q *queue.Queue[string]) (items, dead int) {
	t.Helper()
	must[[]queue.ID](t)(q.EnqueueAll(within(t), make([]string, 1200)))
	for n := range 40 {
		g := queue.Group(fmt.Sprint(n % 3))
		put(t, q, "group", g, queue.Priority(n%5))
		put(t, q, "later", queue.Delay(1<<40), queue.DedupID(fmt.Sprint(n)))
	}
	s := session(t)
	c := queue.New[string](s, q.Name())
	for n := range 30 {
		i := take(t, c)
		if n%3 == 0 {
			if err := i.Reject(within(t), "no"); err != nil {
				t.Fatal(err)
			}
			dead++
		}
	}
	return 1280 - dead, dead
}

func TestDestroy(t *testing.T) {
	s := session(t)
	q := queue.New[string](s, etcd.Prefix(t))
	if _, err := q.Destroy(within(t)); !errors.Is(err, queue.ErrNoQueue) {
		t.Errorf("one that is not there: %v", err)
	}
	put(t, q, "mine", queue.Group("0"), queue.Priority(9))
	worker := queue.New[string](session(t), q.Name())
	mine := take(t, worker)
	items, dead := full(t, q)
	got, err := q.Destroy(within(t))
	if err != nil || got.Items != items+1 || got.Dead != dead {
		t.Errorf("deleted %+v, %v; there were %d and %d", got, err, items+1, dead)
	}
	for _, key := range under(t, q.Name(), "") {
		part, _, _ := strings.Cut(key, "/")
		if !slices.Contains([]string{"lane", "head", "removed", "here", "work", "idle", "dead"}, part) || strings.HasPrefix(key, "dead/in/") {
			t.Errorf("left: %s", key)
		}
	}
	if err := mine.Ack(within(t), clientv3.OpPut("/effect/"+q.Name(), "v")); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("the ack of what was deleted: %v", err)
	}
	if kvs := etcd.Dump(t, "/effect/"+q.Name()); len(kvs) != 0 {
		t.Errorf("it has an effect: %v", kvs)
	}
	// Groups are free, and who consumed goes on.
	put(t, q, "again", queue.Group("0"))
	wants(t, worker, "again")
	put(t, q, "and again", queue.Group("0"))
	wants(t, worker, "and again")
}

// What another takes away first is not counted as deleted, while a group is at work either.
func TestDestroyCountsWhatItDeletes(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	put(t, q, "at work", queue.Group("g"))
	take(t, queue.New[string](session(t), q.Name()))
	put(t, q, "later", queue.Delay(1<<40))
	held := faults.Hold(coretest.All(coretest.Deletes("/in/later/"), coretest.Compares("/in/later/"))) // one by one, not the page
	answer := make(chan queue.Removed, 1)
	go func() {
		got, err := q.Destroy(within(t))
		if err != nil && !errors.Is(err, queue.ErrNoQueue) {
			t.Error(err)
		}
		answer <- got
	}()
	if err := held.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	if got := must[queue.Removed](t)(queue.New[string](session(t), q.Name()).Destroy(within(t))); got.Items != 2 {
		t.Errorf("the first to delete them says %+v", got)
	}
	held.Release()
	if got := <-answer; got.Items != 0 {
		t.Errorf("who came too late has deleted %+v", got)
	}
}

// An ack that had not arrived when its delivery was deleted is never called done.
func TestDestroyUnderAnAck(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	effect := "/effect/" + q.Name()
	put(t, q, "v")
	i := take(t, q)
	lost := faults.LoseRequest(coretest.Puts("/effect/"))
	held := faults.Hold(coretest.Puts("/effect/")) // its repetition
	answer := make(chan error, 1)
	go func() { answer <- i.Ack(within(t), clientv3.OpPut(effect, "v")) }()
	if err := held.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	must[queue.Removed](t)(queue.New[string](session(t), q.Name()).Destroy(within(t)))
	held.Release()
	if err := <-answer; !errors.Is(err, core.ErrUnknownOutcome) || lost.Fired() != 1 {
		t.Errorf("Ack: %v", err)
	}
	if kvs := etcd.Dump(t, effect); len(kvs) != 0 {
		t.Errorf("it has an effect: %v", kvs)
	}
}

// moment lets a moment pass in which others are at work.
func moment(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Whoever removes a queue while others use it loses none of their items, and nobody gets
// one twice.
func TestRemoveBesideOthers(t *testing.T) {
	const producers, each = 2, 60
	admin := session(t)
	name := etcd.Prefix(t)
	var seen sync.Map
	var consumed, removals atomic.Int64
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var others, all sync.WaitGroup
	for p := range producers {
		all.Go(func() {
			q := queue.New[string](session(t), name)
			for n := range each {
				if _, err := q.Enqueue(ctx, fmt.Sprint(p, ".", n), queue.DedupID(fmt.Sprint(p, n))); err != nil {
					t.Errorf("enqueue: %v", err)
				}
				for n%3 == 0 && ctx.Err() == nil { // so that it is empty now and then
					moment(ctx, 8*time.Millisecond)
					if _, delivered := seen.Load(fmt.Sprint(p, ".", n)); delivered {
						break
					}
				}
			}
		})
	}
	others.Go(func() { // a consumer who comes and goes, so that there is nobody now and then
		for ctx.Err() == nil {
			s, err := core.NewSession(ctx, etcd.Client(t))
			if err != nil {
				return
			}
			q := queue.New[string](s, name)
			for i, err := q.TryDequeue(ctx); err == nil; i, err = q.TryDequeue(ctx) {
				if _, twice := seen.LoadOrStore(i.Value, true); twice {
					t.Errorf("%s was delivered twice", i.Value)
				}
				if err := i.Ack(ctx); err != nil && ctx.Err() == nil {
					t.Errorf("ack: %v", err)
				}
				consumed.Add(1)
			}
			_ = s.Close()
			moment(ctx, 5*time.Millisecond)
		}
	})
	others.Go(func() {
		q := queue.New[string](admin, name)
		for ctx.Err() == nil {
			switch err := q.Remove(ctx); {
			case err == nil:
				removals.Add(1)
			case !errors.Is(err, queue.ErrInUse) && !errors.Is(err, queue.ErrNoQueue) && ctx.Err() == nil:
				t.Errorf("remove: %v", err)
			}
		}
	})
	all.Wait()
	until(t, func() bool { return consumed.Load() == producers*each })
	until(t, func() bool { return removals.Load() > 0 })
	cancel()
	others.Wait()
	t.Logf("removed %d times under %d items", removals.Load(), consumed.Load())
}
