package lock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// A register is what the locks of the race test protect: it knows who is inside
// and which tokens it has seen, by name.
type register struct {
	mu      sync.Mutex
	inside  map[string]int // readers, or -1 for a writer
	highest map[string]core.Token
}

// enter reports a violation. A reader's token is only compared with writers'.
func (r *register) enter(names []string, writes bool, token core.Token) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range names {
		in := r.inside[n]
		if in < 0 || (writes && in > 0) {
			return fmt.Errorf("%s: writes %v, and %d are inside", n, writes, in)
		}
		if token <= r.highest[n] {
			return fmt.Errorf("%s: token %d after a writer's %d", n, token, r.highest[n])
		}
		if writes {
			r.inside[n], r.highest[n] = -1, token
		} else {
			r.inside[n]++
		}
	}
	return nil
}

func (r *register) leave(names []string, writes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range names {
		if writes {
			r.inside[n] = 0
		} else {
			r.inside[n]--
		}
	}
}

// TestManyGoroutines uses few names through many objects, sessions and
// goroutines, in all modes, with waits that are given up at any moment.
func TestManyGoroutines(t *testing.T) {
	const sessions, goroutines, rounds = 3, 8, 12
	names := namesWith("race", 3)
	reg := &register{inside: map[string]int{}, highest: map[string]core.Token{}}
	var wg sync.WaitGroup
	for i := range sessions {
		s := session(t)
		for g := range goroutines {
			rnd := rand.New(rand.NewPCG(uint64(i), uint64(g)))
			wg.Go(func() {
				for range rounds {
					if err := raceOnce(t, s, rnd, names, reg); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	eventually(t, "nothing stands", func() bool {
		return len(standing(t, names[0]))+len(standing(t, names[1]))+len(standing(t, names[2])) == 0
	})
}

// raceOnce acquires by one way or another, or gives up.
func raceOnce(t *testing.T, s *core.Session, rnd *rand.Rand, names []string, reg *register) error {
	ctx := longer(t)
	if rnd.IntN(3) == 0 { // some waits end at a moment that fits nobody
		short, cancel := context.WithTimeout(ctx, time.Duration(rnd.IntN(int(40*time.Millisecond))))
		defer cancel()
		ctx = short
	}
	opts := []lock.Option{lock.WithPriority(rnd.IntN(3) - 1)}
	if rnd.IntN(2) == 0 {
		opts = append(opts, lock.WithDeferredRelease())
	}
	if rnd.IntN(3) == 0 {
		opts = append(opts, lock.WithLocalHandover(3, time.Second))
	}
	used := names[rnd.IntN(len(names)):][:1]
	m, writes := heldLocker(lock.NewMutex(s, used[0], opts...)), true
	switch rnd.IntN(5) {
	case 0:
		used = []string{names[2], names[rnd.IntN(2)]}
		m = lock.NewMulti(s, used, opts...)
	case 1:
		m = lock.NewRWMutex(s, used[0], opts...)
	case 2:
		m, writes = readSide{lock.NewRWMutex(s, used[0], opts...)}, false
	}
	acquire := m.Lock
	if rnd.IntN(4) == 0 {
		acquire = m.TryLock
	}
	h, err := acquire(ctx)
	switch {
	case errors.Is(err, lock.ErrLocked):
		return nil
	case err != nil && ctx.Err() != nil:
		return onlyUnless(errors.Is(err, ctx.Err()) || errors.Is(err, core.ErrUnknownOutcome), err)
	case err != nil:
		return err
	}
	workErr := inside(longer(t), h, reg, used, writes, rnd.IntN(2) == 0)
	var both sync.WaitGroup // several releases of one ownership at once
	errs := make([]error, 2)
	for i := range errs {
		both.Go(func() { errs[i] = h.Unlock() })
	}
	both.Wait()
	return errors.Join(workErr, errs[0], errs[1])
}

// inside is what a holder does.
func inside(ctx context.Context, h *lock.Held, reg *register, used []string, writes, commits bool) error {
	if err := reg.enter(used, writes, h.Token()); err != nil {
		return err
	}
	defer reg.leave(used, writes)
	if commits {
		if _, err := h.Commit(ctx); err != nil {
			return err
		}
	}
	if h.Context().Err() != nil {
		return context.Cause(h.Context())
	}
	return nil
}

func onlyUnless(fine bool, err error) error {
	if fine {
		return nil
	}
	return fmt.Errorf("a wait that was given up: %w", err)
}

// TestCloseAmongAll closes a session while goroutines use it in every way: all
// of them return, and nothing of theirs is left.
func TestCloseAmongAll(t *testing.T) {
	names := namesWith("race-close", 3)
	other := session(t)
	for round := range 5 {
		s := session(t)
		reg := &register{inside: map[string]int{}, highest: map[string]core.Token{}}
		var wg sync.WaitGroup
		for g := range 12 {
			rnd := rand.New(rand.NewPCG(uint64(round), uint64(g)))
			wg.Go(func() {
				for {
					err := raceOnce(t, s, rnd, names, reg)
					if errors.Is(err, core.ErrSessionClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		for range 3 { // while they work
			unlock(t, locked(t, lock.NewMutex(other, names[0])))
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
	}
	if left := etcd.Dump(t, "/conclave/default/lock/race-close"); len(left) > 0 {
		t.Errorf("left over: %d keys, the first is %s", len(left), left[0].Key)
	}
}
