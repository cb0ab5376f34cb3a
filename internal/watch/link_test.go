package watch_test

import (
	"errors"
	"net"
	"sync"
	"testing"
)

// link is a TCP connection to etcd that a test can cut, freeze and heal.
type link struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	moved  *sync.Cond // signals a change of frozen
	conns  map[net.Conn]struct{}
	cut    bool
	frozen bool
	closed bool
}

func newLink(t *testing.T, target string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{target: target, listener: listener, conns: map[net.Conn]struct{}{}}
	l.moved = sync.NewCond(&l.mu)
	l.wg.Go(l.accept)
	t.Cleanup(func() {
		l.set(func() { l.closed = true })
		listener.Close()
		l.wg.Wait()
	})
	return l
}

func (l *link) address() string { return l.listener.Addr().String() }

// Cut closes every connection, and new ones at once.
func (l *link) Cut() { l.set(func() { l.cut = true }) }

// Freeze keeps connections open and carries nothing.
func (l *link) Freeze() { l.set(func() { l.frozen = true }) }

// Heal carries again.
func (l *link) Heal() { l.set(func() { l.cut, l.frozen = false, false }) }

func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	if l.cut || l.closed {
		for c := range l.conns {
			c.Close()
		}
	}
	l.moved.Broadcast()
}

func (l *link) accept() {
	for {
		in, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		l.mu.Lock()
		target := l.target
		l.mu.Unlock()
		out, err := net.Dial("tcp", target)
		if err != nil || !l.register(in, out) {
			in.Close()
			if out != nil {
				out.Close()
			}
			continue
		}
		l.wg.Go(func() { l.carry(in, out) })
		l.wg.Go(func() { l.carry(out, in) })
	}
}

func (l *link) register(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || l.closed {
		return false
	}
	for _, c := range conns {
		l.conns[c] = struct{}{}
	}
	return true
}

func (l *link) carry(from, to net.Conn) {
	defer func() {
		from.Close()
		to.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.conns, from)
	}()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		l.mu.Lock()
		for l.frozen && !l.cut && !l.closed {
			l.moved.Wait()
		}
		l.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}
