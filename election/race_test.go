package election_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/election"
)

// A court knows who leads and the largest token that it has seen.
type court struct {
	mu      sync.Mutex
	leading int
	highest core.Token
}

func (c *court) enter(token core.Token) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leading++; c.leading > 1 || token <= c.highest {
		return fmt.Errorf("%d lead, token %d after %d", c.leading, token, c.highest)
	}
	c.highest = token
	return nil
}

func (c *court) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leading--
}

// TestManyCandidates campaigns, gives up, proclaims, transfers and resigns on one
// name from many goroutines, while observers look on.
func TestManyCandidates(t *testing.T) {
	const sessions, goroutines, rounds = 3, 4, 15
	name := etcd.Prefix(t)
	watched, cancel := context.WithCancel(within(t))
	var candidates, observers sync.WaitGroup
	var c court
	for i := range sessions {
		s := session(t, core.WithOwner(fmt.Sprint("session-", i)))
		observers.Go(func() {
			var last core.Token
			for l, err := range election.New(s, name).Observe(watched) {
				if err != nil {
					return
				}
				if !l.Vacant() && l.Token < last || l.Gap {
					t.Errorf("observed %+v after %d", l, last)
				}
				last = max(last, l.Token)
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
	for deadline := time.Now().Add(patience); len(standing(t, name)) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("left over: %q", standing(t, name))
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
	e := election.New(s, name, election.WithPriority(rnd.IntN(3)-1))
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
			err := e.Transfer(within(t), fmt.Sprint("session-", rnd.IntN(3)))
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
	return err
}
