package router

import "sync"

// A group counts the users of something that will be let go: once it is closed
// nobody enters, and idle is closed when the last one has left.
type group struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{}
}

func newGroup() *group { return &group{idle: make(chan struct{})} }

// enter reports whether the caller may go in; if so, it must leave.
func (g *group) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.n++
	return true
}

func (g *group) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n--
	if g.closed && g.n == 0 {
		close(g.idle)
	}
}

func (g *group) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	g.closed = true
	if g.n == 0 {
		close(g.idle)
	}
}

func (g *group) open() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed
}
