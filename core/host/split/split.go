// Package split serves native gRPC and HTTP on one listener.
//
// A [Splitter] looks at the first bytes of each connection and hands it to one
// of two listeners: gRPC's own server gets the connections of gRPC clients, at
// its own speed, and net/http's server gets everything else: HTTP/1.1, HTTP/2,
// and so JSON, Connect, gRPC-Web and web pages.
//
// # How it decides
//
// Without TLS, a connection that does not begin with the preface of HTTP/2 is
// HTTP/1. One that does belongs to its first request: gRPC if the content type
// is application/grpc, alone or with +proto, and HTTP otherwise. With TLS the
// handshake decides: a client that offers http/1.1 is HTTP's, also when HTTP/2
// was agreed on, and one that offers h2 alone is gRPC's.
//
// A connection stays where its first request put it. A gRPC request on a
// connection of HTTP's is for its handler to answer; a JSON request on a
// connection of gRPC's is refused with status 415. Only proxies that mix
// protocols on one connection meet that; [Options].HTTPOnly is for them.
//
// # Failure
//
// A connection that does not say in time what it is gets closed, but for one
// that has completed the HTTP/2 preface: that is the idle channel of a gRPC
// client, which would only connect again. What is over the limit on open
// connections is closed as soon as it is accepted.
package split

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Defaults of [Options].
const (
	DefaultSniffTimeout = 2 * time.Second
	DefaultStallTimeout = 30 * time.Second
	DefaultMaxConns     = 16384
)

// Options of a [Splitter]. The zero value is plaintext with the defaults.
type Options struct {
	// TLS makes the listener speak TLS. NextProtos is the splitter's own and
	// is overwritten. Nil: plaintext.
	TLS *tls.Config
	// SniffTimeout bounds the time from the accepting of a connection to the
	// knowledge of what it is, a TLS handshake included. Zero:
	// DefaultSniffTimeout.
	SniffTimeout time.Duration
	// StallTimeout closes a connection whose peer takes none of the bytes that
	// wait for it, for so long. Zero: DefaultStallTimeout.
	StallTimeout time.Duration
	// MaxConns bounds the open connections of both kinds together. Zero:
	// DefaultMaxConns.
	MaxConns int
	// HTTPOnly gives every connection to HTTP.
	HTTPOnly bool
	// Log hears of refused connections. Nil: silent.
	Log *slog.Logger
}

// A Splitter divides the connections of one listener. It accepts from New on,
// until Close, which releases everything that it runs.
type Splitter struct {
	options Options
	tls     *tls.Config
	inner   net.Listener
	grpc    *side
	http    *side
	slots   chan struct{}
	refused atomic.Int64

	done      chan struct{}
	closing   sync.Once
	closeErr  error
	accepting sync.WaitGroup
	sniffing  sync.WaitGroup

	mu      sync.Mutex
	pending map[net.Conn]struct{} // connections that are being looked at
}

// New returns a splitter that accepts connections from l, which it owns from
// now on.
func New(l net.Listener, options Options) *Splitter {
	if options.SniffTimeout <= 0 {
		options.SniffTimeout = DefaultSniffTimeout
	}
	if options.StallTimeout <= 0 {
		options.StallTimeout = DefaultStallTimeout
	}
	if options.MaxConns <= 0 {
		options.MaxConns = DefaultMaxConns
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	s := &Splitter{
		options: options,
		inner:   l,
		slots:   make(chan struct{}, options.MaxConns),
		done:    make(chan struct{}),
		pending: map[net.Conn]struct{}{},
	}
	s.grpc, s.http = newSide(s), newSide(s)
	if options.TLS != nil {
		s.tls = serverTLS(options.TLS)
	}
	s.accepting.Go(s.accept)
	return s
}

// GRPC returns the listener for gRPC's server. On a TLS listener the server
// needs [Credentials]. Closing it refuses connections of gRPC clients from then
// on; those of HTTP's are still accepted until the splitter is closed.
func (s *Splitter) GRPC() net.Listener { return s.grpc }

// HTTP returns the listener for net/http's server, whose Protocols must have
// HTTP/1, HTTP/2 and unencrypted HTTP/2. It is closed like GRPC's.
func (s *Splitter) HTTP() net.Listener { return s.http }

// Open returns how many connections are open.
func (s *Splitter) Open() int { return len(s.slots) }

// Refused returns how many connections were closed because MaxConns others were
// open.
func (s *Splitter) Refused() int64 { return s.refused.Load() }

// Close closes the listener and the connections that nobody has taken yet, and
// waits for the splitter's goroutines. Connections that a server has taken are
// the server's. It is idempotent; the error is that of closing the listener.
func (s *Splitter) Close() error {
	s.closing.Do(func() {
		close(s.done)
		s.closeErr = s.inner.Close()
		s.mu.Lock()
		for c := range s.pending {
			_ = c.Close()
		}
		s.mu.Unlock()
	})
	s.accepting.Wait()
	s.sniffing.Wait()
	if errors.Is(s.closeErr, net.ErrClosed) {
		return nil // by whoever made it
	}
	return s.closeErr
}

func (s *Splitter) accept() {
	// Not s.Close, which waits for this goroutine.
	defer s.grpc.end()
	defer s.http.end()
	pause := newPause()
	for {
		raw, err := s.inner.Accept()
		if err != nil {
			if !pause.wait(err, s.done) {
				return
			}
			s.options.Log.Warn("accepting connections failed, trying again", "error", err)
			continue
		}
		pause.reset()
		select {
		case s.slots <- struct{}{}:
			s.look(newConn(raw, s.options.StallTimeout, func() { <-s.slots }))
		default:
			s.refuse(raw)
		}
	}
}

// refuse closes a connection that is one too many. One line is logged for each
// power of two, so that a flood does not fill the log as well.
func (s *Splitter) refuse(raw net.Conn) {
	_ = raw.Close()
	if n := s.refused.Add(1); n&(n-1) == 0 {
		s.options.Log.Warn("connections refused: too many are open",
			"refused", n, "limit", s.options.MaxConns, "peer", raw.RemoteAddr().String())
	}
}

// look finds out what a connection is, in a goroutine of its own.
func (s *Splitter) look(c *conn) {
	s.mu.Lock()
	s.pending[c] = struct{}{}
	s.mu.Unlock()
	s.sniffing.Go(func() {
		side, served := s.classify(c)
		s.mu.Lock()
		delete(s.pending, c)
		s.mu.Unlock()
		if side == nil || !side.hand(served) {
			_ = c.Close()
		}
	})
}

// classify returns where a connection belongs and what its server is to read
// from; no side if it is to be closed.
func (s *Splitter) classify(c *conn) (*side, net.Conn) {
	select {
	case <-s.done:
		return nil, nil // accepted while Close went through the pending ones
	default:
	}
	if err := c.SetDeadline(time.Now().Add(s.options.SniffTimeout)); err != nil {
		return nil, nil
	}
	side, served := s.decide(c)
	if side == nil || c.SetDeadline(time.Time{}) != nil {
		return nil, nil
	}
	return side, served
}

func (s *Splitter) decide(c *conn) (*side, net.Conn) {
	switch {
	case s.tls != nil:
		return s.handshake(c)
	case s.options.HTTPOnly:
		return s.http, c
	}
	kind, seen := sniff(c)
	switch kind {
	case kindGRPC:
		return s.grpc, replay(c, seen)
	case kindHTTP1:
		return s.http, replay(c, seen)
	case kindHTTP2:
		return s.http, replayWithoutAck(c, seen)
	default:
		return nil, nil
	}
}
