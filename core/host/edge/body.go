package edge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"time"
)

// prefixLen is the length of what stands before each message of a stream: a byte
// of flags and four of length.
const prefixLen = 5

const (
	flagCompressed = 1
	maxDrained     = 8 << 20 // bytes of a body that are read only to be refused
	firstPiece     = 64 << 10
)

func inMemory(b []byte) io.ReadCloser { return io.NopCloser(bytes.NewReader(b)) }

// take makes the request's body one from which messages can be received. A
// method that takes one message gets it whole before anything else happens: then
// nothing waits for a slow sender, and net/http sees when the caller goes away.
func (c *call) take(r *http.Request, f form) *problem {
	if c.method.clientStream {
		if r.ProtoMajor < 2 { // the transcoder says 2, whatever it is
			duplex(c.outer)
		}
		frames := &frameReader{from: r.Body, limit: c.edge.options.MaxRequest}
		c.frames = frames
		r.Body = frames
		return nil
	}
	overhead := 0
	if f == formEnvelopes || f == formGRPC {
		overhead = prefixLen
	}
	b, p := c.readAll(r, c.edge.options.MaxRequest+overhead)
	if p != nil {
		return p
	}
	switch {
	case overhead > 0:
		return c.takeOne(r, b)
	case len(b) == 0 && r.Header.Get("Content-Type") == typeJSON && !compressed(r.Header.Get("Content-Encoding")):
		b = []byte("{}")
	}
	if f == formLines {
		if compressed(r.Header.Get("Content-Encoding")) {
			return contentType("header Content-Encoding: a stream's request is sent as it is")
		}
		b = append(binary.BigEndian.AppendUint32(make([]byte, 1, prefixLen+len(b)), uint32(len(b))), b...)
	}
	c.frames = &frameReader{whole: true}
	r.Body, r.ContentLength = inMemory(b), int64(len(b))
	return nil
}

// takeOne takes a body that must be exactly one message with its prefix.
func (c *call) takeOne(r *http.Request, b []byte) *problem {
	if len(b) > 0 && (len(b) < prefixLen || int64(binary.BigEndian.Uint32(b[1:prefixLen])) != int64(len(b)-prefixLen)) {
		return invalid("invalid_request", "the body is not exactly one message")
	}
	frames := &frameReader{from: bytes.NewReader(b), limit: c.edge.options.MaxRequest}
	c.frames = frames
	r.Body, r.ContentLength = frames, int64(len(b))
	return nil
}

// readAll reads a whole body within the limits of bytes and time.
func (c *call) readAll(r *http.Request, limit int) ([]byte, *problem) {
	if r.ContentLength > int64(limit) && r.Header.Get("Expect") != "" {
		return nil, tooLong(limit) // the caller waits for leave to send it
	}
	control := http.NewResponseController(c.outer)
	_ = control.SetReadDeadline(time.Now().Add(c.edge.options.ReadTimeout))
	b, err := readBounded(r, limit)
	switch {
	case err != nil && errors.Is(err, os.ErrDeadlineExceeded):
		// The deadline stays: without it net/http waits for the rest of the body.
		return nil, tooSlow()
	case err != nil:
		return nil, invalid("invalid_request", "the request ended early")
	case len(b) > limit:
		// A caller that is still sending reads no answer; most stop sooner.
		_, _ = io.CopyN(io.Discard, r.Body, maxDrained)
		return nil, tooLong(limit)
	}
	_ = control.SetReadDeadline(time.Time{})
	return b, nil
}

// readBounded reads to the end, or one byte more than the limit.
func readBounded(r *http.Request, limit int) ([]byte, error) {
	if n := r.ContentLength; n >= 0 && n <= int64(limit) {
		b, err := appendN(nil, r.Body, int(n))
		if err == nil {
			// net/http notices that the caller goes away once it has seen the end.
			_, err = io.Copy(io.Discard, r.Body)
		}
		return b, err
	}
	return io.ReadAll(io.LimitReader(r.Body, int64(limit)+1))
}

// appendN appends n bytes from r. What a sender announces takes memory only as it
// arrives.
func appendN(b []byte, r io.Reader, n int) ([]byte, error) {
	for n > 0 {
		piece := min(n, max(firstPiece, len(b)))
		b = slices.Grow(b, piece)
		got, err := io.ReadFull(r, b[len(b):len(b)+piece])
		b = b[:len(b)+got]
		if err != nil {
			return b, err
		}
		n -= piece
	}
	return b, nil
}

// A frameReader holds one message at a time, prefix and all, so that whoever
// reads it never waits for the network. It is used by one goroutine at a time.
type frameReader struct {
	from  io.Reader // nil if whole
	limit int
	whole bool // the body in front of it is one message, without a prefix
	given bool

	frame []byte // what of the message is left to be read
	err   error
}

// next waits until a message can be read. At the end it returns io.EOF.
func (f *frameReader) next() error {
	if f.whole {
		if f.given {
			return io.EOF
		}
		f.given = true
		return nil
	}
	if f.err == nil {
		f.err = f.fill()
	}
	return f.err
}

func (f *frameReader) fill() error {
	var prefix [prefixLen]byte
	if _, err := io.ReadFull(f.from, prefix[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(prefix[1:])
	if int64(n) > int64(f.limit) {
		return tooLong(f.limit).connect()
	}
	frame, err := appendN(append(make([]byte, 0, prefixLen+min(int(n), firstPiece)), prefix[:]...), f.from, int(n))
	if err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	f.frame = frame
	return nil
}

// Read implements [io.Reader] on the message that next has fetched.
func (f *frameReader) Read(p []byte) (int, error) {
	if len(f.frame) == 0 {
		return 0, io.EOF
	}
	n := copy(p, f.frame)
	f.frame = f.frame[n:]
	return n, nil
}

// Close implements [io.Closer]. The request's own body is net/http's to close.
func (f *frameReader) Close() error { return nil }
