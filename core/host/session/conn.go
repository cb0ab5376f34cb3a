package session

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"google.golang.org/grpc/peer"
)

// Listen wraps a listener of the API so that the service can tell who ended a
// connection: its peer, whose kernel closes it when the process dies, or this
// host. It must be the innermost wrapper, below TLS, since only bytes on the
// wire tell. Connections without it are served all the same, without fast
// release.
func Listen(l net.Listener) net.Listener { return &listener{l} }

type listener struct{ net.Listener }

// Accept returns the next connection, wrapped.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

// A Conn is a connection of the API that knows its end. What wraps it must hand
// on its RemoteAddr, as an embedded net.Conn and crypto/tls do.
type Conn struct {
	net.Conn
	remote address
	local  bool
	once   sync.Once
	byPeer bool // written before ended is closed
	ended  chan struct{}
}

// An address is where a connection comes from, and which one it is. It carries
// the connection through servers that know of a caller nothing but its address.
type address struct {
	net.Addr
	conn *Conn
}

func newConn(c net.Conn) *Conn {
	w := &Conn{Conn: c, local: isLocal(c.RemoteAddr()), ended: make(chan struct{})}
	w.remote = address{c.RemoteAddr(), w}
	return w
}

// RemoteAddr returns the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// Read reads from the peer, and notes its end.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.note(err)
	return n, err
}

// Write writes to the peer, and notes its end.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.note(err)
	return n, err
}

// Close closes the connection. If the peer had not ended it, this host did.
func (c *Conn) Close() error {
	c.end(false)
	return c.Conn.Close()
}

// note tells the peer's end from everything else that fails: a deadline, a
// keep-alive without an answer, our own close.
func (c *Conn) note(err error) {
	if err != nil && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)) {
		c.end(true)
	}
}

func (c *Conn) end(byPeer bool) {
	c.once.Do(func() {
		c.byPeer = byPeer
		close(c.ended)
	})
}

type connKey struct{}

// ConnContext is for http.Server.ConnContext, and gives the calls of a
// connection what they need to ask for fast release.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	if a, ok := c.RemoteAddr().(address); ok {
		return context.WithValue(ctx, connKey{}, a.conn)
	}
	return ctx
}

// connOf returns the connection of a call, nil if it is not known.
func connOf(ctx context.Context) *Conn {
	if c, ok := ctx.Value(connKey{}).(*Conn); ok {
		return c
	}
	if p, ok := peer.FromContext(ctx); ok {
		if a, ok := p.Addr.(address); ok {
			return a.conn
		}
	}
	return nil
}

// localPeer says whether the end of the call's connection can prove that the
// caller's process died.
func localPeer(ctx context.Context) bool {
	c := connOf(ctx)
	return c != nil && c.local
}
