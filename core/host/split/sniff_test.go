package split_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/conclavehq/conclave/core/host/split"
)

// A wire is one connection, spoken frame by frame.
type wire struct {
	net.Conn

	tb     testing.TB
	framer *http2.Framer
	out    bytes.Buffer // frames that are not sent yet
}

func (s *server) wire(tb testing.TB) *wire {
	tb.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		tb.Fatal(err)
	}
	w := &wire{Conn: c, tb: tb}
	w.framer = http2.NewFramer(&w.out, c)
	w.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	return w
}

func (w *wire) preface() {
	w.out.WriteString(http2.ClientPreface)
	w.must(w.framer.WriteSettings())
}

func (w *wire) must(err error) {
	w.tb.Helper()
	if err != nil {
		w.tb.Fatal(err)
	}
}

// block returns the header block of a POST.
func block(contentType string, more ...string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	fields := []string{":method", "POST", ":scheme", "http", ":path", method, ":authority", "localhost", "te", "trailers"}
	if contentType != "" {
		fields = append(fields, "content-type", contentType)
	}
	fields = append(fields, more...)
	for i := 0; i < len(fields); i += 2 {
		_ = e.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return b.Bytes()
}

func (w *wire) headers(block []byte) {
	w.must(w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndHeaders: true}))
}

// message is an empty gRPC message.
func (w *wire) message() { w.must(w.framer.WriteData(1, true, make([]byte, 5))) }

func (w *wire) flush() {
	w.tb.Helper()
	_, err := w.out.WriteTo(w.Conn)
	w.must(err)
}

// answer reads to the end of the first stream and returns who answered. It
// acknowledges SETTINGS as clients do.
func (w *wire) answer() string {
	w.tb.Helper()
	var body strings.Builder
	for {
		frame, err := w.framer.ReadFrame()
		if err != nil {
			w.tb.Fatalf("reading the answer: %v, after %q", err, body.String())
		}
		end := frame.Header().Flags.Has(http2.FlagHeadersEndStream)
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				w.must(w.framer.WriteSettingsAck())
				w.flush()
			}
		case *http2.DataFrame:
			body.Write(f.Data())
			if f.StreamEnded() {
				return body.String()
			}
		case *http2.MetaHeadersFrame:
			if end {
				return body.String()
			}
		case *http2.GoAwayFrame, *http2.RSTStreamFrame:
			w.tb.Fatalf("the server ended it: %v %+v", frame, frame)
		}
	}
}

// A shape is a way for a connection to begin.
type shape struct {
	name string
	send func(w *wire)
	want string // what the answer contains
}

const (
	grpcType = "application/grpc"
	jsonType = "application/json"
)

func shapes() []shape {
	plain := func(contentType string) func(*wire) {
		return func(w *wire) {
			w.preface()
			w.headers(block(contentType))
			w.message()
			w.flush()
		}
	}
	return []shape{
		{"grpc", plain(grpcType), "grpc insecure"},
		{"grpc proto", plain("application/grpc+proto"), "grpc insecure"},
		{"grpc with a parameter", plain("application/grpc;x=y"), "grpc insecure"},
		{"grpc json", plain("application/grpc+json"), "http "},
		{"grpc-web", plain("application/grpc-web"), "http "},
		{"grpc-web proto", plain("application/grpc-web+proto"), "http "},
		{"json", plain(jsonType), "http "},
		{"connect", plain("application/connect+proto"), "http "},
		{"no type", plain(""), "http "},
		{"waits for our settings", func(w *wire) {
			w.preface()
			w.flush()
			frame, err := w.framer.ReadFrame()
			w.must(err)
			if s, ok := frame.(*http2.SettingsFrame); !ok || s.IsAck() {
				w.tb.Fatalf("the server's first frame is %v", frame)
			}
			w.must(w.framer.WriteSettingsAck())
			w.headers(block(grpcType))
			w.message()
			w.flush()
		}, "grpc insecure"},
		{"waits for our settings, json", func(w *wire) {
			w.preface()
			w.flush()
			_, err := w.framer.ReadFrame()
			w.must(err)
			w.must(w.framer.WriteSettingsAck())
			w.headers(block(jsonType))
			w.message()
			w.flush()
		}, "http "},
		{"acknowledges after the request, json", func(w *wire) {
			plain(jsonType)(w)
			_, err := w.framer.ReadFrame()
			w.must(err)
			w.must(w.framer.WriteSettingsAck())
			w.flush()
		}, "http "},
		{"continuation", func(w *wire) {
			w.preface()
			b := block(grpcType, "x-long", strings.Repeat("x", 6000))
			w.must(w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:7]}))
			w.must(w.framer.WriteContinuation(1, false, b[7:100]))
			w.must(w.framer.WriteContinuation(1, true, b[100:]))
			w.message()
			w.flush()
		}, "grpc insecure"},
		{"priority, ping and window first", func(w *wire) {
			w.preface()
			w.must(w.framer.WritePriority(3, http2.PriorityParam{StreamDep: 0, Weight: 7}))
			w.must(w.framer.WritePing(false, [8]byte{1}))
			w.must(w.framer.WriteWindowUpdate(0, 1<<16))
			w.headers(block(jsonType))
			w.message()
			w.flush()
		}, "http "},
		{"padding and priority", func(w *wire) {
			w.preface()
			w.must(w.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(grpcType), EndHeaders: true, PadLength: 9, Priority: http2.PriorityParam{Weight: 3}}))
			w.message()
			w.flush()
		}, "grpc insecure"},
		{"byte by byte, grpc", func(w *wire) { trickle(w, plain(grpcType)) }, "grpc insecure"},
		{"byte by byte, json", func(w *wire) { trickle(w, plain(jsonType)) }, "http "},
	}
}

// trickle sends what send writes in packets of one byte.
func trickle(w *wire, send func(*wire)) {
	net := w.Conn
	var all bytes.Buffer
	w.Conn = writerConn{net, &all}
	send(w)
	w.Conn = net
	for _, b := range all.Bytes() {
		_, err := net.Write([]byte{b})
		w.must(err)
	}
}

type writerConn struct {
	net.Conn
	to io.Writer
}

func (c writerConn) Write(p []byte) (int, error) { return c.to.Write(p) }

func TestShapes(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{}, false)
	for _, shape := range shapes() {
		t.Run(shape.name, func(t *testing.T) {
			w := s.wire(t)
			shape.send(w)
			if got := w.answer(); !strings.Contains(got, shape.want) {
				t.Errorf("answered by %q, want %q", got, shape.want)
			}
		})
	}
}

// TestHTTPOnly gives gRPC to the HTTP server as well.
func TestHTTPOnly(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{HTTPOnly: true}, false)
	w := s.wire(t)
	w.preface()
	w.headers(block(grpcType))
	w.message()
	w.flush()
	if got := w.answer(); !strings.HasPrefix(got, "http ") {
		t.Errorf("answered by %q", got)
	}
}

func TestHTTP1(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{}, false)
	for name, request := range map[string]string{
		"post":            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
		"get":             "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"upgrade":         "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n",
		"like h2 a while": "PRIVATE / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			w := s.wire(t)
			r := bufio.NewReader(w.Conn)
			for range 3 { // and the connection is kept
				_, err := io.WriteString(w.Conn, request)
				w.must(err)
				answer, err := http.ReadResponse(r, nil)
				w.must(err)
				body, err := io.ReadAll(answer.Body)
				w.must(err)
				_ = answer.Body.Close()
				if answer.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "http ") || answer.Header.Get("X-Proto") != "HTTP/1.1" {
					t.Fatalf("%s %q %v", answer.Status, body, answer.Header)
				}
			}
		})
	}
}

// TestNoHTTP sends what is neither, and must be told or cut off, not kept.
func TestNoHTTP(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{SniffTimeout: 100 * time.Millisecond}, false)
	for name, bytes := range map[string]string{
		"nothing":               "",
		"part of the preface":   http2.ClientPreface[:10],
		"the preface alone":     http2.ClientPreface,
		"half a frame's header": http2.ClientPreface + "\x00\x00\x00\x04",
		"half a request":        http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x50\x01\x04\x00\x00\x00\x01abc",
		"a frame too long":      http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\xff\xff\xff\x01\x04\x00\x00\x00\x01abc",
		"no header block":       http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x03\x01\x04\x00\x00\x00\x01\xff\xff\xff",
		"tls":                   "\x16\x03\x01\x00\x05hello\r\n\r\n",
		"no http":               "EHLO there\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := s.wire(t)
			_, err := io.WriteString(w.Conn, bytes)
			w.must(err)
			if _, err := io.Copy(io.Discard, w.Conn); isTimeout(err) {
				t.Error("the connection was kept")
			}
		})
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// TestIdleChannel completes the preface, says nothing for longer than sniffing
// takes, and then calls.
func TestIdleChannel(t *testing.T) {
	t.Parallel()
	s := start(t, split.Options{SniffTimeout: 50 * time.Millisecond}, false)
	w := s.wire(t)
	w.preface()
	w.flush()
	for handed := false; !handed; {
		// The splitter's own SETTINGS are empty; grpc-go's, which come after the
		// hand-over, are not.
		frame, err := w.framer.ReadFrame()
		w.must(err)
		if f, ok := frame.(*http2.SettingsFrame); ok && !f.IsAck() {
			w.must(w.framer.WriteSettingsAck())
			handed = f.NumSettings() > 0
		}
	}
	w.headers(block(grpcType))
	w.message()
	w.flush()
	if got := w.answer(); !strings.Contains(got, "grpc insecure") {
		t.Errorf("answered by %q", got)
	}
}

// TestSettingsAck counts what the HTTP server sees: exactly the client's
// acknowledgement of its own SETTINGS.
func TestSettingsAck(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := split.New(l, split.Options{})
	defer s.Close()
	w := (&server{addr: l.Addr().String()}).wire(t)
	w.preface()
	w.headers(block(jsonType))
	w.must(w.framer.WriteSettingsAck())
	w.must(w.framer.WriteData(1, false, []byte("one")))
	w.must(w.framer.WriteSettingsAck())
	w.must(w.framer.WriteData(1, true, []byte("two")))
	w.flush()
	c, err := s.HTTP().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil || string(preface) != http2.ClientPreface {
		t.Fatalf("%q, %v", preface, err)
	}
	framer := http2.NewFramer(io.Discard, c)
	var got []string
	for len(got) < 5 {
		f, err := framer.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%v %v", f.Header().Type, f.Header().Flags))
	}
	want := "SETTINGS 0,HEADERS 4,DATA 0,SETTINGS 1,DATA 1"
	if joined := strings.Join(got, ","); joined != want {
		t.Errorf("got  %s\nwant %s", joined, want)
	}
}
