package split

import (
	"net"
	"sync"
	"time"
)

// A side is the listener that one of the two servers accepts from.
type side struct {
	splitter *Splitter
	conns    chan net.Conn
	closing  sync.Once
	closed   chan struct{}
	ending   sync.Once
	ended    chan struct{} // no connection will come any more
}

func newSide(s *Splitter) *side {
	return &side{splitter: s, conns: make(chan net.Conn), closed: make(chan struct{}), ended: make(chan struct{})}
}

// Accept implements [net.Listener].
func (s *side) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
	case <-s.ended:
	}
	return nil, &net.OpError{Op: "accept", Net: s.Addr().Network(), Addr: s.Addr(), Err: net.ErrClosed}
}

// Close implements [net.Listener].
func (s *side) Close() error {
	s.closing.Do(func() { close(s.closed) })
	return nil
}

// Addr implements [net.Listener].
func (s *side) Addr() net.Addr { return s.splitter.inner.Addr() }

func (s *side) end() { s.ending.Do(func() { close(s.ended) }) }

// hand gives a connection to whoever accepts, and reports whether somebody
// took it.
func (s *side) hand(c net.Conn) bool {
	select {
	case s.conns <- c:
		return true
	case <-s.closed:
	case <-s.ended:
	case <-s.splitter.done:
	}
	return false
}

// pause waits between attempts to accept while the process has no descriptors
// left, longer each time.
type pause struct {
	next time.Duration
}

func newPause() *pause { return &pause{next: firstPause} }

const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

func (p *pause) reset() { p.next = firstPause }

// wait reports whether it is worth another try after err.
func (p *pause) wait(err error, done <-chan struct{}) bool {
	// Deprecated for errors at large, but what Accept means by it is exactly
	// this case, and net/http's server does the same.
	temporary, ok := err.(interface{ Temporary() bool })
	if !ok || !temporary.Temporary() {
		return false
	}
	t := time.NewTimer(p.next)
	defer t.Stop()
	p.next = min(2*p.next, lastPause)
	select {
	case <-t.C:
		return true
	case <-done:
		return false
	}
}
