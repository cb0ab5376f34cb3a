package session

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
)

func TestOnlyThisMachineIsLocal(t *testing.T) {
	for _, c := range []struct {
		addr net.Addr
		want bool
	}{
		{&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, true},
		{&net.TCPAddr{IP: net.IPv4(127, 9, 9, 9), Port: 1}, true},
		{&net.TCPAddr{IP: net.IPv6loopback, Port: 1}, true},
		{&net.UnixAddr{Name: "@", Net: "unix"}, true},
		{&net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, false},
		{&net.TCPAddr{IP: net.IPv4zero, Port: 1}, false},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0", Port: 1}, false},
		{&net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, false},
	} {
		if got := isLocal(c.addr); got != c.want {
			t.Errorf("%s %v: local %v", c.addr.Network(), c.addr, got)
		}
	}
}

// failing is a connection whose reads end as a test says.
type failing struct {
	net.Conn
	err error
}

func (f failing) Read([]byte) (int, error) { return 0, f.err }
func (f failing) Close() error             { return nil }
func (f failing) RemoteAddr() net.Addr     { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func TestOnlyThePeersEndCounts(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{io.EOF, true},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, true},
		{&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ETIMEDOUT)}, false},
		{os.ErrDeadlineExceeded, false},
		{net.ErrClosed, false},
		{errors.New("anything else"), false},
	} {
		w := newConn(failing{err: c.err})
		if of := connOf(ConnContext(context.Background(), struct{ net.Conn }{w})); of != w {
			t.Errorf("the calls of a connection find %p, want %p", of, w)
		}
		if _, err := w.Read(nil); !errors.Is(err, c.err) {
			t.Errorf("read %v, want %v", err, c.err)
		}
		_ = w.Close()
		<-w.ended
		if w.byPeer != c.want {
			t.Errorf("after %v the peer ended it: %v", c.err, w.byPeer)
		}
	}
}
