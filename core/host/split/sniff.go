package split

import (
	"bytes"
	"errors"
	"net"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

var errTooMuch = errors.New("the connection's first request is too long")

// kind is what a connection turned out to be.
type kind int

const (
	kindNone  kind = iota // nothing that could be served
	kindGRPC              // HTTP/2, and gRPC by its first request
	kindHTTP1             // HTTP/1, or no HTTP: the HTTP server answers that
	kindHTTP2             // HTTP/2, and not gRPC
)

const (
	maxSniffed   = 64 << 10 // bytes of a connection that are kept to decide on it
	maxFrame     = 16 << 10 // what a client may send before the server says otherwise
	hpackTable   = 4096     // the table's size before the server says otherwise
	maxHeaderLen = 32 << 10
)

// sniff reads as much of a connection as says what it is, and returns that and
// what it read. The connection has a deadline.
func sniff(c net.Conn) (kind, []byte) {
	r := &recorder{from: c}
	for !r.has(http2.ClientPreface) {
		if len(r.seen) > len(http2.ClientPreface) || http2.ClientPreface[:len(r.seen)] != string(r.seen) {
			return kindHTTP1, r.seen
		}
		if r.more() != nil {
			return kindNone, nil
		}
	}
	r.next = len(http2.ClientPreface)
	framer := http2.NewFramer(c, r)
	// A client may wait for the server's SETTINGS before its first request.
	if framer.WriteSettings() != nil {
		return kindNone, nil
	}
	return firstRequest(framer, r), r.seen
}

// firstRequest reads frames up to the first request.
func firstRequest(framer *http2.Framer, r *recorder) kind {
	framer.SetMaxReadFrameSize(maxFrame)
	framer.ReadMetaHeaders = hpack.NewDecoder(hpackTable, nil)
	framer.MaxHeaderListSize = maxHeaderLen
	settled := false
	for {
		boundary := r.next
		frame, err := framer.ReadFrame()
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			settled = true
		case *http2.MetaHeadersFrame:
			return kindOf(f)
		}
		switch {
		case err == nil:
		case r.err == nil:
			return kindHTTP2 // not HTTP/2 as it should be: the HTTP server says so
		case settled && boundary == len(r.seen) && isTimeout(r.err):
			return kindGRPC // a channel without a call
		default:
			return kindNone
		}
	}
}

func kindOf(f *http2.MetaHeadersFrame) kind {
	for _, h := range f.RegularFields() {
		if h.Name == "content-type" && isGRPC(h.Value) {
			return kindGRPC
		}
	}
	return kindHTTP2
}

// isGRPC reports whether a content type is one that gRPC's own server serves:
// gRPC in protobuf. gRPC-Web's begin with the same letters, and gRPC in JSON is
// HTTP's to transcode.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(contentType, "application/grpc")
	if !ok {
		return false
	}
	codec, _, _ := strings.Cut(rest, ";")
	return codec == "" || codec == "+proto"
}

func isTimeout(err error) bool {
	t, ok := err.(net.Error) //nolint:errorlint // read from the connection itself, unwrapped
	return ok && t.Timeout()
}

// A recorder keeps what it reads, and reads in large pieces.
type recorder struct {
	from net.Conn
	seen []byte
	next int   // what of seen is handed out next
	err  error // the connection's, not the frames'
}

// has reports whether what was seen begins with s.
func (r *recorder) has(s string) bool { return bytes.HasPrefix(r.seen, []byte(s)) }

// more reads from the connection.
func (r *recorder) more() error {
	if len(r.seen) >= maxSniffed {
		r.err = errTooMuch
		return r.err
	}
	if len(r.seen) == cap(r.seen) {
		grown := make([]byte, len(r.seen), max(1024, 4*cap(r.seen)))
		copy(grown, r.seen)
		r.seen = grown
	}
	n, err := r.from.Read(r.seen[len(r.seen):cap(r.seen)])
	r.seen = r.seen[:len(r.seen)+n]
	if n == 0 && err != nil {
		r.err = err
		return err
	}
	return nil
}

// Read implements [io.Reader].
func (r *recorder) Read(p []byte) (int, error) {
	if r.next == len(r.seen) {
		if err := r.more(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.seen[r.next:])
	r.next += n
	return n, nil
}
