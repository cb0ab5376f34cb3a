package split_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/conclavehq/conclave/core/host/split"
)

func TestTLS(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{}, true)
	for _, certificates := range [][]tls.Certificate{nil, {s.key}} {
		peer := ""
		if certificates != nil {
			peer = "4711"
		}
		if got, err := s.ask(within(t), s.dial(t, certificates...)); err != nil || got != strings.TrimSpace("grpc tls "+peer) {
			t.Errorf("grpc-go: %q, %v", got, err)
		}
		for name, setup := range map[string]func(*http.Protocols){
			"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
			"HTTP/2.0": func(p *http.Protocols) { p.SetHTTP1(true); p.SetHTTP2(true) },
		} {
			r, err := http.NewRequestWithContext(within(t), http.MethodPost, "https://"+s.addr, strings.NewReader("body"))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := s.client(t, setup, certificates...).Do(r)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			body, err := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if err != nil || string(body) != "http body" || answer.Header.Get("X-Proto") != name || answer.Header.Get("X-Peer") != peer {
				t.Errorf("%s: %q, %v, %v", name, body, answer.Header, err)
			}
		}
	}
}

// TestTLSWithout counts a client that has no ALPN as HTTP/1.1, and one that
// speaks no TLS as nobody.
func TestTLSWithout(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{SniffTimeout: time.Second}, true)
	c, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
	if body, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(body), "http ") {
		t.Errorf("%q, %v", body, err)
	}
	w := s.wire(t)
	_, err = io.WriteString(w.Conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	w.must(err)
	if _, err := io.Copy(io.Discard, w.Conn); isTimeout(err) {
		t.Error("a plaintext connection was kept")
	}
}

// TestTLSChoice keeps the configuration's own choice by name.
func TestTLSChoice(t *testing.T) {
	t.Parallel()
	key, roots := certificate(t)
	asked := make(chan string, 8)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := split.New(l, split.Options{TLS: &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked <- hello.Conn.RemoteAddr().Network()
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{key}}, nil
	}}})
	defer s.Close()
	for offered, side := range map[string]net.Listener{"h2": s.GRPC(), "http/1.1": s.HTTP()} {
		var accepted net.Conn
		var accepting sync.WaitGroup
		accepting.Go(func() { accepted, _ = side.Accept() })
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, NextProtos: []string{offered}})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != offered {
			t.Errorf("agreed on %q, want %q", got, offered)
		}
		accepting.Wait()
		if _, ok := accepted.(*tls.Conn); !ok {
			t.Errorf("the accepted connection is a %T: net/http needs a *tls.Conn", accepted)
		}
		_ = accepted.Close()
		_ = c.Close()
		<-asked
	}
}

// TestSlowConnections holds 300 connections that say nothing, or too little, and
// meanwhile calls.
func TestSlowConnections(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{SniffTimeout: 200 * time.Millisecond}, false)
	conn := s.dial(t)
	var kept, gone []*wire
	for range 100 {
		silent, half, idle := s.wire(t), s.wire(t), s.wire(t)
		_, err := io.WriteString(half.Conn, http2.ClientPreface[:12])
		half.must(err)
		idle.preface()
		idle.flush()
		kept, gone = append(kept, idle), append(gone, silent, half)
	}
	for range 20 {
		if got, err := s.ask(within(t), conn); err != nil || got != "grpc insecure" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	for i, w := range gone {
		if _, err := io.Copy(io.Discard, w.Conn); isTimeout(err) {
			t.Fatalf("connection %d was kept", i)
		}
	}
	for i, w := range kept {
		w.headers(block(grpcType))
		w.message()
		w.flush()
		if got := w.answer(); !strings.Contains(got, "grpc insecure") {
			t.Fatalf("idle channel %d: %q", i, got)
		}
	}
}

func TestMaxConns(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{MaxConns: 3}, false)
	var open []*wire
	hello := func(w *wire) error {
		_, err := io.WriteString(w.Conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if err == nil {
			_, err = io.ReadFull(w.Conn, make([]byte, 12))
		}
		return err
	}
	for range 3 {
		w := s.wire(t)
		w.must(hello(w))
		open = append(open, w)
	}
	if n := s.Open(); n != 3 {
		t.Errorf("%d connections are open, want 3", n)
	}
	if err := hello(s.wire(t)); err == nil {
		t.Error("a connection over the limit was served")
	}
	if n := s.Refused(); n != 1 {
		t.Errorf("%d connections were refused, want 1", n)
	}
	_ = open[0].Close()
	for within := within(t); s.Open() == 3; runtime.Gosched() {
		if within.Err() != nil {
			t.Fatal("a closed connection keeps its place")
		}
	}
	w := s.wire(t)
	w.must(hello(w))
}

// TestStall reads nothing of a long answer.
func TestStall(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := split.New(l, split.Options{StallTimeout: 50 * time.Millisecond})
	defer s.Close()
	w := (&server{addr: l.Addr().String()}).wire(t)
	_, err = io.WriteString(w.Conn, "GET / HTTP/1.1\r\n\r\n")
	w.must(err)
	c, err := s.HTTP().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	chunk := make([]byte, 1<<20)
	for range 1 << 10 {
		if _, err = c.Write(chunk); err != nil {
			break
		}
	}
	if !isTimeout(err) {
		t.Errorf("writing to a peer that reads nothing ended with %v", err)
	}
	// A server's own deadline is left alone.
	if err := c.SetWriteDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(chunk[:1]); !isTimeout(err) {
		t.Errorf("writing after the server's deadline: %v", err)
	}
}

func TestClose(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{SniffTimeout: time.Hour}, false)
	w := s.wire(t)
	_, err := io.WriteString(w.Conn, "P")
	w.must(err)
	for s.Open() == 0 {
		runtime.Gosched()
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := io.Copy(io.Discard, w.Conn); isTimeout(err) {
		t.Error("a connection that was being looked at was kept")
	}
	for _, l := range []net.Listener{s.GRPC(), s.HTTP()} {
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept after close: %v", err)
		}
		if l.Addr().String() != s.addr {
			t.Errorf("address is %v, want %s", l.Addr(), s.addr)
		}
	}
}

// TestCloseOneSide refuses one kind and serves the other.
func TestCloseOneSide(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{}, false)
	s.grpc.Stop()
	w := s.wire(t)
	w.preface()
	w.headers(block(grpcType))
	w.flush()
	if _, err := io.Copy(io.Discard, w.Conn); isTimeout(err) {
		t.Error("a gRPC connection was kept although nobody accepts it")
	}
	w = s.wire(t)
	w.preface()
	w.headers(block(jsonType))
	w.message()
	w.flush()
	if got := w.answer(); !strings.HasPrefix(got, "http ") {
		t.Errorf("answered by %q", got)
	}
}

// TestCurl is the client that a SETTINGS acknowledgement too many breaks.
func TestCurl(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("skipped: this machine has no curl")
	}
	for _, secure := range []bool{false, true} {
		s := start(t, split.Options{}, secure)
		for _, flags := range [][]string{{"--http1.1"}, {"--http2"}, {"--http2-prior-knowledge"}} {
			url := "http://" + s.addr
			if secure {
				flags = append(flags, "--insecure")
				url = "https://" + s.addr
			}
			t.Run(fmt.Sprintf("%v", flags), func(t *testing.T) {
				if secure && flags[0] == "--http2-prior-knowledge" {
					t.Skip("skipped: over TLS this flag offers h2 alone, which is gRPC's")
				}
				args := slices.Concat(flags, []string{"--silent", "--show-error", "--max-time", "20", "--data", "body", url, "--next", "--silent", "--show-error", "--max-time", "20", "--data", "again", url})
				if secure {
					args = append(args, "--insecure")
				}
				out, err := exec.CommandContext(within(t), curl, args...).CombinedOutput()
				if err != nil || string(out) != "http bodyhttp again" {
					t.Errorf("%q, %v", out, err)
				}
			})
		}
	}
}
