package ownership

import "sync"

// A Group holds the contexts that end with one session. One registration with the
// session, of End, serves them all, which costs a context no allocation. The zero
// value is ready.
type Group struct {
	mu    sync.Mutex
	first *Context
	over  bool // the session has ended
}

// Add makes c ask whether it has lapsed when the group ends, or at once if it has
// ended. A context is in one group at most.
func (g *Group) Add(c *Context) {
	g.mu.Lock()
	over := g.over
	if !over {
		if c.next = g.first; c.next != nil {
			c.next.prev = c
		}
		g.first = c
	}
	g.mu.Unlock()
	if over {
		_ = c.Check()
	}
}

// Remove takes c out, if it is in.
func (g *Group) Remove(c *Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case c.prev != nil:
		c.prev.next = c.next
	case g.first == c:
		g.first = c.next
	}
	if c.next != nil {
		c.next.prev = c.prev
	}
	c.next, c.prev = nil, nil
}

// End is called when the session has ended.
func (g *Group) End() {
	g.mu.Lock()
	g.over = true
	var all []*Context
	for c := g.first; c != nil; c = c.next {
		all = append(all, c)
	}
	g.mu.Unlock()
	for _, c := range all { // not under the lock: whoever registered with a context is called
		_ = c.Check()
	}
}
