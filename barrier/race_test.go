package barrier_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

// An umpire knows who is inside which generation of a double barrier.
type umpire struct {
	mu      sync.Mutex
	parties int
	entered map[int64]int // by generation
	left    map[int64]int
	last    int64
}

// enter reports a violation: one too many, or a generation that began while
// members of an earlier one had not begun to leave.
func (u *umpire) enter(g int64) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.entered[g]++
	u.last = max(u.last, g)
	if u.entered[g] > u.parties {
		return fmt.Errorf("%d entered generation %d", u.entered[g], g)
	}
	if g > 1 && u.left[g-1] < u.parties {
		return fmt.Errorf("generation %d began when %d of %d had begun to leave the one before", g, u.left[g-1], u.parties)
	}
	return nil
}

func (u *umpire) leave(g int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.left[g]++
}

// TestManyEnter enters, gives up and leaves on one name from many goroutines of
// several sessions, twice as many as the barrier has parties.
func TestManyEnter(t *testing.T) {
	const sessions, parties, generations = 3, 6, 12
	name := etcd.Prefix(t)
	u := umpire{parties: parties, entered: make(map[int64]int), left: make(map[int64]int)}
	done, stop := context.WithCancel(within(t))
	var wg sync.WaitGroup
	for range sessions {
		d := barrier.NewDouble(session(t), name, parties)
		for range 2 * parties / sessions {
			wg.Go(func() {
				for done.Err() == nil {
					ctx, cancel := context.WithTimeout(done, time.Duration(rand.IntN(2000))*time.Millisecond)
					e, err := d.Enter(ctx)
					cancel()
					switch {
					case err == nil:
						noErrorNow(t, u.enter(e.Generation()))
						u.leave(e.Generation())
						if err := e.Leave(within(t)); err != nil {
							t.Error(err)
						}
						if e.Generation() >= generations {
							stop()
						}
					case !errors.Is(err, barrier.ErrFull) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
						t.Error(err)
						stop()
					}
				}
			})
		}
	}
	wg.Wait()
	stop()
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last < generations {
		t.Errorf("only %d generations", u.last)
	}
	onlyStates(t, name)
}

// TestManyKinds uses all kinds of one name from many goroutines of one session.
func TestManyKinds(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for range 5 {
				h, err := barrier.New(s, name).Hold(within(t))
				noErrorNow(t, err)
				if err == nil {
					noErrorNow(t, h.Release())
				}
				noErrorNow(t, barrier.New(s, name).Wait(within(t)))
				_, err = barrier.NewCyclic(s, name, 4).Await(within(t))
				noErrorNow(t, err)
				e, err := barrier.NewDouble(s, name, 4).Enter(within(t))
				noErrorNow(t, err)
				if err == nil {
					noErrorNow(t, e.Leave(within(t)))
				}
				noErrorNow(t, barrier.NewLatch(s, name, 4).CountDown(within(t), fmt.Sprint(i)))
				noErrorNow(t, barrier.NewLatch(s, name, 4).Await(within(t)))
			}
		})
	}
	wg.Wait()
	onlyStates(t, name)
}

// TestSessionsEndWhileTheirMembersWait closes and expires sessions below all sorts
// of waits.
func TestSessionsEndWhileTheirMembersWait(t *testing.T) {
	name := etcd.Prefix(t)
	held(t, barrier.New(session(t), name))
	var wg sync.WaitGroup
	var all []*core.Session
	for range 4 {
		s := session(t)
		all = append(all, s)
		for what, f := range map[string]func(context.Context) error{
			"wait":  barrier.New(s, name).Wait,
			"latch": barrier.NewLatch(s, name, 2).Await,
			"double": func(ctx context.Context) error {
				_, err := barrier.NewDouble(s, name, 9).Enter(ctx)
				return err
			},
		} {
			wg.Go(func() {
				if err := f(within(t)); !errors.Is(err, core.ErrSessionClosed) && !errors.Is(err, core.ErrSessionExpired) {
					t.Errorf("%s: %v", what, err)
				}
			})
		}
	}
	tickets(t, name, 4)
	for i, s := range all {
		if i%2 == 0 {
			noError(t, s.Close())
		} else {
			expire(t, s)
		}
	}
	wg.Wait()
	tickets(t, name, 0)
}
