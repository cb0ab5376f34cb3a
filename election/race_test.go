package election_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/election"
)

// A court knows how many lead, and the tokens that it has seen.
type court struct {
	seats   int
	mu      sync.Mutex
	leading int
	seen    map[core.Token]bool
	highest core.Token
}

func (c *court) enter(token core.Token) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Of several seats two may be won in one order and told in the other.
	if c.leading++; c.leading > c.seats || c.seen[token] || c.seats == 1 && token <= c.highest {
		return fmt.Errorf("%d lead on %d seats, token %d after %d", c.leading, c.seats, token, c.highest)
	}
	c.seen[token], c.highest = true, max(c.highest, token)
	return nil
}

func (c *court) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leading--
}

// TestManyCandidates campaigns, gives up, proclaims, transfers, forces and resigns on
// one name from many goroutines, while observers look on.
func TestManyCandidates(t *testing.T) {
	for _, seats := range []int{1, 3} {
		t.Run(fmt.Sprint("seats=", seats), func(t *testing.T) { manyCandidates(t, seats) })
	}
}

func manyCandidates(t *testing.T, seats int) {
	const sessions, goroutines, rounds = 3, 4, 15
	name := etcd.Prefix(t)
	watched, cancel := context.WithCancel(within(t))
	var candidates, observers sync.WaitGroup
	c := court{seats: seats, seen: make(map[core.Token]bool)}
	for i := range sessions {
		s := session(t, core.WithOwner(fmt.Sprint("session-", i)))
		observers.Go(func() {
			var last core.Token
			for s, err := range election.New(s, name, election.WithSeats(seats)).ObserveSeats(watched) {
				if err != nil {
					return
				}
				if len(s.Leaders) > seats || s.Gap {
					t.Errorf("observed %+v", s)
				}
				for _, l := range s.Leaders {
					if seats == 1 && l.Token < last {
						t.Errorf("observed %+v after %d", l, last)
					}
					last = max(last, l.Token)
				}
			}
		})
		for g := range goroutines {
			rnd := rand.New(rand.NewPCG(uint64(i), uint64(g)))
			candidates.Go(func() {
				for range rounds {
					if err := stand(t, s, name, rnd, &c); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
	}
	candidates.Wait()
	cancel()
	observers.Wait()
	left := func() []string { // a notice goes with its leader's session
		return slices.DeleteFunc(standing(t, name), func(key string) bool { return strings.Contains(key, "/notice/") })
	}
	for deadline := time.Now().Add(patience); len(left()) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("left over: %q", left())
		}
	}
}

// stand stands for election once, in one way or another.
func stand(t *testing.T, s *core.Session, name string, rnd *rand.Rand, c *court) error {
	ctx := within(t)
	if rnd.IntN(3) == 0 { // some candidates give up at a moment that fits nobody
		short, cancel := context.WithTimeout(ctx, time.Duration(rnd.IntN(int(30*time.Millisecond))))
		defer cancel()
		ctx = short
	}
	zones := []string{"a", "b", "c"}
	e := election.New(s, name, election.WithSeats(c.seats), election.WithPriority(rnd.IntN(3)-1),
		election.WithZone(zones[rnd.IntN(3)]), election.WithPreferredZones(zones[:2]...))
	term, err := e.Campaign(ctx, "candidate")
	if err != nil {
		if ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, core.ErrUnknownOutcome)) {
			return nil
		}
		return err
	}
	if err := c.enter(term.Token()); err != nil {
		return err
	}
	if rnd.IntN(2) == 0 {
		if err := term.Proclaim(within(t), fmt.Sprint(rnd.Int())); err != nil && !errors.Is(err, election.ErrLost) {
			return err
		}
	}
	moved := make(chan struct{})
	close(moved)
	if rnd.IntN(3) == 0 {
		moved = make(chan struct{})
		go func() {
			defer close(moved)
			err := unseat(t, e, rnd)
			switch {
			case err == nil, errors.Is(err, election.ErrNoContender), errors.Is(err, election.ErrNoLeader), errors.Is(err, election.ErrNotTransferred):
			default:
				t.Error(err)
			}
		}()
	}
	c.leave()
	err = term.Resign()
	<-moved
	if errors.Is(err, core.ErrRevoked) { // by somebody else's hand
		return nil
	}
	return err
}

// unseat makes a leader step down, in one way or another.
func unseat(t *testing.T, e *election.Election, rnd *rand.Rand) error {
	someone := func() string { return fmt.Sprint("session-", rnd.IntN(3)) }
	switch rnd.IntN(3) {
	case 0:
		return e.Transfer(within(t), someone())
	case 1:
		return e.TransferFrom(within(t), someone(), someone())
	default:
		_, err := e.ForceResign(within(t), "test", someone())
		return err
	}
}
