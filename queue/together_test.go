package queue_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/queue"
)

func TestABoundHoldsWhoeverEnqueues(t *testing.T) {
	const capacity, sessions, producers, each = 20, 3, 3, 20
	name := etcd.Prefix(t)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var full atomic.Int64
	var putting, others sync.WaitGroup
	for s := range sessions {
		q := queue.New[string](session(t), name, queue.WithCapacity(capacity))
		for range producers {
			putting.Go(func() {
				for n := 0; n < each; {
					_, err := q.Enqueue(ctx, "v")
					switch {
					case err == nil:
						n++
					case errors.Is(err, queue.ErrFull):
						full.Add(1)
						rest(ctx)
					default:
						t.Error(err)
						return
					}
				}
			})
		}
		if s > 0 {
			continue
		}
		others.Go(func() {
			for {
				i, err := q.Dequeue(ctx)
				if err != nil {
					return
				}
				ack(t, i)
			}
		})
	}
	watcher := queue.New[string](session(t), name)
	most := 0
	others.Go(func() {
		for ctx.Err() == nil {
			if n, err := watcher.Len(ctx); err == nil {
				most = max(most, n)
			}
			rest(ctx)
		}
	})
	putting.Wait()
	until(t, func() bool { return depth(t, watcher) == 0 })
	cancel()
	others.Wait()
	if most > capacity || most == 0 || full.Load() == 0 {
		t.Errorf("at most %d items were seen, with a capacity of %d; full %d times", most, capacity, full.Load())
	}
}

// rest leaves the machine to others for a moment.
func rest(ctx context.Context) {
	timer := time.NewTimer(2 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func TestGroupsUnderManyConsumers(t *testing.T) {
	const groups, items, consumers = 4, 30, 3
	name := etcd.Prefix(t)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	var mu sync.Mutex
	next, inside := make(map[string]int), make(map[string]bool)
	var all sync.WaitGroup
	for range consumers {
		q := queue.New[string](session(t), name, queue.WithMaxAttempts(1000))
		for range 3 {
			all.Go(func() {
				for {
					i, err := q.Dequeue(ctx)
					if err != nil {
						return
					}
					mu.Lock()
					if inside[i.Group] || i.Value != fmt.Sprint(next[i.Group]) {
						t.Errorf("group %s: item %s while %d is next, inside: %v", i.Group, i.Value, next[i.Group], inside[i.Group])
					}
					inside[i.Group] = true
					mu.Unlock()
					again := rand.IntN(4) == 0
					mu.Lock()
					inside[i.Group] = false
					if !again {
						next[i.Group]++
					}
					mu.Unlock()
					if again {
						err = i.Nack(within(t), 0)
					} else {
						err = i.Ack(within(t))
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	var putting sync.WaitGroup
	for g := range groups {
		q := queue.New[string](session(t), name)
		putting.Go(func() {
			for n := range items {
				put(t, q, fmt.Sprint(n), queue.Group(fmt.Sprint(g)))
			}
		})
	}
	putting.Wait()
	watcher := queue.New[string](session(t), name)
	until(t, func() bool { return depth(t, watcher) == 0 })
	cancel()
	all.Wait()
	if left := append(under(t, name, "busy/"), under(t, name, "next/")...); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestAClosedSessionGivesItsItemsBack(t *testing.T) {
	s, name := session(t), etcd.Prefix(t)
	q := queue.New[string](s, name)
	put(t, q, "a")
	i := take(t, q)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	cause := context.Cause(i.Context())
	if !errors.Is(cause, queue.ErrStaleDelivery) || !errors.Is(cause, core.ErrSessionClosed) {
		t.Errorf("cause %v", cause)
	}
	if err := i.Ack(within(t)); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("Ack: %v", err)
	}
	if _, err := q.Enqueue(within(t), "b"); !errors.Is(err, core.ErrSessionClosed) {
		t.Errorf("Enqueue: %v", err)
	}
	if _, err := q.Dequeue(within(t)); !errors.Is(err, core.ErrSessionClosed) {
		t.Errorf("Dequeue: %v", err)
	}
	wants(t, queue.New[string](session(t), name), "a")
}
