package coretest

import (
	"errors"
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Direction is a way through a [Link].
type Direction int

const (
	// ToServer carries requests.
	ToServer Direction = 1 << iota
	// ToClient carries replies and events.
	ToClient
	// Both is ToServer and ToClient.
	Both = ToServer | ToClient
)

// Link is a TCP connection to a member that a test can break: a proxy on loopback. It starts whole.
type Link struct {
	listener net.Listener
	target   string
	work     sync.WaitGroup

	mu     sync.Mutex
	cut    bool
	closed bool
	gates  map[Direction]chan struct{} // a closed channel is an open gate
	pipes  map[*pipe]struct{}
}

// Link puts a link in front of the member, for the length of the test. Clients that dial its Endpoint go through it; others do not.
func (e *Etcd) Link(tb testing.TB) *Link {
	tb.Helper()
	u, err := url.Parse(e.Endpoint())
	if err != nil {
		tb.Fatalf("coretest: link: %v", err)
	}
	l, err := newLink(u.Host)
	if err != nil {
		tb.Fatalf("coretest: link: %v", err)
	}
	tb.Cleanup(l.close)
	return l
}

func newLink(target string) (*Link, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{listener: ln, target: target, pipes: map[*pipe]struct{}{}}
	l.gates = map[Direction]chan struct{}{ToServer: openGate(), ToClient: openGate()}
	l.work.Add(1)
	go l.accept()
	return l, nil
}

func openGate() chan struct{} {
	g := make(chan struct{})
	close(g)
	return g
}

// Endpoint returns the client URL of the member behind the link.
func (l *Link) Endpoint() string { return "http://" + l.listener.Addr().String() }

// Cut breaks every connection, with what was under way on it, and resets each new one until Heal. Requests under way fail at once with
// codes.Unavailable; clientv3 lets later ones wait for a connection, so give their contexts a deadline.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for p := range l.pipes {
		p.reset()
	}
}

// Blackhole makes what flows in a direction go nowhere until Heal; connections stay, and new ones are accepted. Nobody is told: clients
// notice by their own deadlines. As with a real network, what was sent meanwhile arrives after Heal, late, if the connection still stands.
func (l *Link) Blackhole(d Direction) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, way := range []Direction{ToServer, ToClient} {
		if d&way != 0 && isClosed(l.gates[way]) {
			l.gates[way] = make(chan struct{})
		}
	}
}

// Heal makes the link whole again. Clients return as soon as they try again.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heal()
}

func (l *Link) heal() {
	l.cut = false
	for _, g := range l.gates {
		if !isClosed(g) {
			close(g)
		}
	}
}

func isClosed(g chan struct{}) bool {
	select {
	case <-g:
		return true
	default:
		return false
	}
}

func (l *Link) close() {
	l.mu.Lock()
	l.closed = true
	l.listener.Close()
	for p := range l.pipes {
		p.reset()
	}
	l.mu.Unlock()
	l.work.Wait()
}

func (l *Link) accept() {
	defer l.work.Done()
	for {
		c, err := l.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		l.join(c)
	}
}

// join connects a new client, unless the link is cut.
func (l *Link) join(client net.Conn) {
	server, err := net.Dial("tcp", l.target)
	if err != nil {
		reset(client)
		return
	}
	p := &pipe{client: client, server: server, broken: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut || l.closed {
		p.reset()
		return
	}
	l.pipes[p] = struct{}{}
	l.work.Add(2)
	go l.carry(p, ToServer, p.server, p.client)
	go l.carry(p, ToClient, p.client, p.server)
}

// carry moves bytes one way until either end closes.
func (l *Link) carry(p *pipe, way Direction, dst io.Writer, src io.Reader) {
	defer l.work.Done()
	defer l.forget(p)
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			select {
			case <-l.gate(way):
			case <-p.broken:
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (l *Link) gate(way Direction) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gates[way]
}

func (l *Link) forget(p *pipe) {
	p.reset()
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pipes, p)
}

// pipe is one client's connection and its continuation to the member.
type pipe struct {
	client, server net.Conn
	once           sync.Once
	broken         chan struct{}
}

func (p *pipe) reset() {
	p.once.Do(func() {
		close(p.broken)
		reset(p.client)
		reset(p.server)
	})
}

// reset closes a connection so that the other side gets an error rather than an orderly end.
func reset(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = c.Close()
}
