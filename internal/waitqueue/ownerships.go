package waitqueue

import "sync"

// ownerships are what the session owns through one queue. One registration with the
// session serves them all, which costs an ownership no allocation.
type ownerships struct {
	mu    sync.Mutex
	first *Owned
	over  bool // the session has ended
}

// add makes o's context end with the session.
func (s *ownerships) add(o *Owned) {
	s.mu.Lock()
	over := s.over
	if !over {
		if o.next = s.first; o.next != nil {
			o.next.prev = o
		}
		s.first = o
	}
	s.mu.Unlock()
	if over {
		_ = o.ctx.Check()
	}
}

// remove takes o out, if it is in.
func (s *ownerships) remove(o *Owned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case o.prev != nil:
		o.prev.next = o.next
	case s.first == o:
		s.first = o.next
	}
	if o.next != nil {
		o.next.prev = o.prev
	}
	o.next, o.prev = nil, nil
}

// end is called when the session has ended.
func (s *ownerships) end() {
	s.mu.Lock()
	s.over = true
	var all []*Owned
	for o := s.first; o != nil; o = o.next {
		all = append(all, o)
	}
	s.mu.Unlock()
	for _, o := range all { // not under the lock: whoever registered with a context is called
		_ = o.ctx.Check()
	}
}
