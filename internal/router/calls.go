package router

import (
	"context"
	"sync"
)

// A register knows the calls in flight, so that they can be ended.
type register struct {
	mu    sync.Mutex
	last  *call         // the latest one; the others hang on it
	cause error         // why it is closed
	idle  chan struct{} // closed when it is closed and empty
}

// add registers a call and gives it a context that the register can end. It
// returns the reason if no more calls are taken.
func (g *register) add(c *call) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cause != nil {
		return g.cause
	}
	c.ctx = &c.own
	if c.older = g.last; g.last != nil {
		g.last.next = c
	}
	g.last = c
	return nil
}

func (g *register) remove(c *call) {
	c.own.end(context.Canceled)
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.next == nil {
		g.last = c.older
	} else {
		c.next.older = c.older
	}
	if c.older != nil {
		c.older.next = c.next
	}
	c.older, c.next = nil, nil
	g.settle()
}

// close refuses further calls and ends those that there are. The channel is
// closed when none is left.
func (g *register) close(cause error) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cause == nil {
		g.cause = cause
		for c := g.last; c != nil; c = c.older {
			c.own.end(cause)
		}
		g.settle()
	}
	return g.idle
}

func (g *register) settle() {
	if g.cause == nil || g.last != nil {
		return
	}
	select {
	case <-g.idle:
	default:
		close(g.idle)
	}
}

// end ends the calls of one set of services, or the streams among them.
func (g *register) end(s *set, cause error, streamsOnly bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := g.last; c != nil; c = c.older {
		if c.set.Load() == s && (!streamsOnly || c.open.Load()) {
			c.own.end(cause)
		}
	}
}
