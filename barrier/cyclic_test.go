package barrier_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

func TestCyclicMeetsAgainAndAgain(t *testing.T) {
	name := etcd.Prefix(t)
	const n, rounds = 4, 10
	var mu sync.Mutex
	met := make(map[int64]int)
	var wg sync.WaitGroup
	for range n {
		c := barrier.NewCyclic(session(t), name, n)
		wg.Go(func() {
			for want := int64(1); want <= rounds; want++ {
				g, err := c.Await(within(t))
				if err != nil || g != want {
					t.Errorf("generation %d, %v; want %d", g, err, want)
					return
				}
				mu.Lock()
				met[g]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for g := int64(1); g <= rounds; g++ {
		if met[g] != n {
			t.Errorf("%d met in generation %d", met[g], g)
		}
	}
	onlyStates(t, name)
}

// TestMoreThanNMeet lets many more come than fit, from several sessions at once:
// each is in exactly one generation, and each generation has n.
func TestMoreThanNMeet(t *testing.T) {
	name := etcd.Prefix(t)
	const n, times = 3, 7
	var mu sync.Mutex
	met := make(map[int64]int)
	var wg sync.WaitGroup
	for range times {
		s := session(t)
		for range n {
			wg.Go(func() {
				g, err := barrier.NewCyclic(s, name, n).Await(within(t))
				noErrorNow(t, err)
				mu.Lock()
				defer mu.Unlock()
				met[g]++
			})
		}
	}
	wg.Wait()
	for g := int64(1); g <= times; g++ {
		if met[g] != n {
			t.Errorf("%d met in generation %d: %v", met[g], g, met)
		}
	}
	onlyStates(t, name)
}

func TestLossBreaksACyclic(t *testing.T) {
	name := etcd.Prefix(t)
	dying := session(t, core.WithOwner("dying"))
	s := session(t)
	a := awaiting(within(t), barrier.NewCyclic(s, name, 3))
	tickets(t, name, 1)
	dead := awaiting(within(t), barrier.NewCyclic(dying, name, 3))
	tickets(t, name, 2)
	expire(t, dying)
	_, err := a.result(t)
	isLost(t, err, "dying")
	if _, err := dead.result(t); !errors.Is(err, core.ErrSessionExpired) {
		isLost(t, err, "dying")
	}
	onlyStates(t, name)
	var next []*call[int64]
	for range 3 {
		next = append(next, awaiting(within(t), barrier.NewCyclic(s, name, 3)))
	}
	for _, c := range next {
		if g := c.get(t); g != 2 {
			t.Errorf("generation %d, want 2", g)
		}
	}
}

func TestCyclicTimeoutBreaksNothing(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	c := barrier.NewCyclic(s, name, 2)
	ctx, cancel := context.WithCancelCause(within(t))
	gone := awaiting(ctx, c)
	tickets(t, name, 1)
	why := errors.New("lunch")
	cancel(why)
	_, err := gone.result(t)
	isAll(t, err, context.Canceled, why)
	isNot(t, err, core.ErrUnknownOutcome)
	tickets(t, name, 0)
	a := awaiting(within(t), c)
	if g := must[int64](t)(c.Await(within(t))); g != 1 || a.get(t) != 1 {
		t.Error("not the first generation")
	}
	onlyStates(t, name)
}

func TestCyclicPartiesMismatch(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	a := awaiting(within(t), barrier.NewCyclic(s, name, 2))
	tickets(t, name, 1)
	_, err := barrier.NewCyclic(session(t), name, 3).Await(within(t))
	isAll(t, err, barrier.ErrPartiesMismatch)
	must[int64](t)(barrier.NewCyclic(s, name, 2).Await(within(t)))
	a.get(t)
	if g := must[int64](t)(barrier.NewCyclic(session(t), name, 1).Await(within(t))); g != 2 {
		t.Errorf("generation %d, want 2", g)
	}
}
