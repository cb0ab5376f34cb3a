package split

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

// A conn is an accepted connection: it gives its slot back when it is closed,
// and gives up on a peer that takes no bytes.
type conn struct {
	net.Conn
	stall    time.Duration
	deadline atomic.Bool // a write deadline of the server's own is in force
	closing  sync.Once
	closeErr error
	release  func()

	// Whether the client offered HTTP/1.1 in its TLS handshake.
	offersHTTP1 bool
}

func newConn(raw net.Conn, stall time.Duration, release func()) *conn {
	return &conn{Conn: raw, stall: stall, release: release}
}

// Write implements [net.Conn].
func (c *conn) Write(p []byte) (int, error) {
	if !c.deadline.Load() {
		if err := c.Conn.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(p)
}

// SetDeadline implements [net.Conn].
func (c *conn) SetDeadline(t time.Time) error {
	c.deadline.Store(!t.IsZero())
	return c.Conn.SetDeadline(t)
}

// SetWriteDeadline implements [net.Conn].
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.deadline.Store(!t.IsZero())
	return c.Conn.SetWriteDeadline(t)
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.closing.Do(func() {
		c.closeErr = c.Conn.Close()
		c.release()
	})
	return c.closeErr
}

// A readerConn is a connection whose bytes come from elsewhere at first.
type readerConn struct {
	*conn
	from io.Reader
}

// Read implements [net.Conn].
func (c *readerConn) Read(p []byte) (int, error) { return c.from.Read(p) }

// replay returns the connection with the bytes that were read of it in front.
func replay(c *conn, seen []byte) net.Conn {
	return &readerConn{conn: c, from: &replayed{seen: seen, rest: c.Conn}}
}

// replayWithoutAck is replay without the client's acknowledgement of the
// splitter's SETTINGS: net/http counts it as one too many and ends the
// connection with PROTOCOL_ERROR; grpc-go does not mind.
func replayWithoutAck(c *conn, seen []byte) net.Conn {
	return &readerConn{conn: c, from: &ackDropper{from: &replayed{seen: seen, rest: c.Conn}, pass: len(http2.ClientPreface)}}
}

type replayed struct {
	seen []byte
	rest io.Reader
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.seen) == 0 {
		r.seen = nil
		return r.rest.Read(p)
	}
	n := copy(p, r.seen)
	r.seen = r.seen[n:]
	return n, nil
}

// frameHeader is the length of the header of an HTTP/2 frame.
const frameHeader = 9

// An ackDropper removes the first acknowledgement of SETTINGS from a stream of
// HTTP/2 frames.
type ackDropper struct {
	from    io.Reader
	pass    int // bytes that go through before the next frame's header
	header  [frameHeader]byte
	got     int    // bytes of the header read so far
	out     []byte // of the header, to hand out
	dropped bool
}

func (d *ackDropper) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		switch {
		case len(d.out) > 0:
			n := copy(p, d.out)
			d.out = d.out[n:]
			return n, nil
		case d.dropped:
			return d.from.Read(p)
		case d.pass > 0:
			n, err := d.from.Read(p[:min(len(p), d.pass)])
			d.pass -= n
			return n, err
		}
		n, err := d.from.Read(d.header[d.got:])
		d.got += n
		if d.got == frameHeader {
			d.frame()
		} else if err != nil {
			return 0, err
		}
	}
}

// frame takes a complete header.
func (d *ackDropper) frame() {
	d.got = 0
	kind, flags := http2.FrameType(d.header[3]), http2.Flags(d.header[4])
	if kind == http2.FrameSettings && flags.Has(http2.FlagSettingsAck) {
		d.dropped = true
		return
	}
	d.out = d.header[:]
	d.pass = int(binary.BigEndian.Uint32(d.header[:4]) >> 8)
}
