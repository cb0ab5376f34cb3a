package edge

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/recipe"
)

// A call is the stream of one call, on a request and an answer that are gRPC's,
// whether the client's own or the transcoder's. It implements
// [grpc.ServerStream].
type call struct {
	edge       *Edge
	method     *method
	outer      http.ResponseWriter // what the client gets
	transcoded bool
	frames     *frameReader // of the client

	path string
	w    http.ResponseWriter
	body io.Reader // of the transcoder
	ctx  context.Context

	// mu is held while the transcoder's writer is used, and while its reader
	// is: on a message that it cannot decode the reader writes the error, with
	// no lock of its own. Nothing blocks in that reader, because frames has the
	// message by then.
	mu       sync.Mutex
	header   metadata.MD
	trailer  metadata.MD
	sent     bool // the header
	finished bool
	drained  bool // nothing is left of the request
	reading  sync.WaitGroup
}

// serve runs the handler on the call and writes how it ended.
func (c *call) serve(w http.ResponseWriter, r *http.Request) {
	c.path, c.w, c.body = r.URL.Path, w, r.Body
	md, err := incoming(r)
	if err == nil {
		var cancel context.CancelFunc
		c.ctx, cancel = withTimeout(callContext(r, md, c), r.Header.Get("Grpc-Timeout"))
		defer cancel()
		err = c.run()
	}
	c.finish(err)
}

// run calls the handler. A read that waits for the client ends with the context,
// as it does with gRPC's own server.
func (c *call) run() error {
	if c.method.clientStream {
		interrupted := make(chan struct{})
		stop := context.AfterFunc(c.ctx, func() {
			defer close(interrupted)
			c.interrupt()
		})
		defer func() {
			if !stop() {
				<-interrupted
			}
		}()
	}
	return c.edge.options.Handler(nil, c)
}

// interrupt ends the reading of the request for good.
func (c *call) interrupt() {
	_ = http.NewResponseController(c.outer).SetReadDeadline(time.Unix(1, 0))
}

// finish writes the status. When it returns nobody uses the request or the
// answer any more: net/http allows neither once its handler has returned.
func (c *call) finish(err error) {
	st := statusOf(err)
	c.mu.Lock()
	c.finished = true
	c.sendHeader()
	h := c.w.Header()
	putMetadata(h, http.TrailerPrefix, c.trailer)
	putStatus(h, st)
	drained := c.drained
	c.mu.Unlock()
	if c.method.clientStream && !drained {
		c.interrupt()
	}
	c.reading.Wait()
}

// Method implements [grpc.ServerTransportStream].
func (c *call) Method() string { return c.path }

// Context implements [grpc.ServerStream].
func (c *call) Context() context.Context { return c.ctx }

// SetHeader implements [grpc.ServerStream].
func (c *call) SetHeader(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent || c.finished {
		return errHeaderSent
	}
	c.header = metadata.Join(c.header, md)
	return nil
}

// SendHeader implements [grpc.ServerStream].
func (c *call) SendHeader(md metadata.MD) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sent || c.finished {
		return errHeaderSent
	}
	c.header = metadata.Join(c.header, md)
	c.sendHeader()
	if c.streams() {
		// The transcoder flushes messages only, and only the client's own writer
		// can be asked to.
		return http.NewResponseController(c.outer).Flush()
	}
	return nil
}

// SetTrailer implements [grpc.ServerStream].
func (c *call) SetTrailer(md metadata.MD) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trailer = metadata.Join(c.trailer, md)
}

var (
	errHeaderSent = status.Error(codes.Internal, "the header has been sent")
	errFinished   = status.Error(codes.Canceled, "the call has ended")
)

// streams reports whether the client waits for each message rather than for the
// whole answer.
func (c *call) streams() bool { return c.method.clientStream || c.method.serverStream }

// sendHeader writes the header once. The caller has the lock.
func (c *call) sendHeader() {
	if c.sent {
		return
	}
	c.sent = true
	h := c.w.Header()
	putMetadata(h, "", c.header)
	h.Set("Content-Type", typeGRPC+"+proto")
	c.w.WriteHeader(http.StatusOK)
}

// SendMsg implements [grpc.ServerStream].
func (c *call) SendMsg(m any) error {
	data, err := c.edge.options.Codec.Marshal(m)
	if err != nil {
		return status.Errorf(codes.Internal, "encoding the answer: %v", err)
	}
	defer data.Free()
	if n := data.Len(); n > c.edge.options.MaxMessage {
		return recipe.Errorf(codes.ResourceExhausted, "limit_message", "the answer has %d bytes, the limit is %d", n, c.edge.options.MaxMessage)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.finished {
		return errFinished
	}
	c.sendHeader()
	if err := c.write(data); err != nil {
		if c.ctx.Err() != nil {
			return status.FromContextError(c.ctx.Err()).Err()
		}
		return status.Error(codes.Unavailable, "the caller takes no answer")
	}
	return nil
}

func (c *call) write(data mem.BufferSlice) error {
	var prefix [prefixLen]byte
	binary.BigEndian.PutUint32(prefix[1:], uint32(data.Len()))
	if _, err := c.w.Write(prefix[:]); err != nil {
		return err
	}
	for _, b := range data {
		if _, err := c.w.Write(b.ReadOnlyData()); err != nil {
			return err
		}
	}
	if c.transcoded || !c.streams() {
		return nil
	}
	return http.NewResponseController(c.w).Flush()
}

// RecvMsg implements [grpc.ServerStream].
func (c *call) RecvMsg(m any) error {
	data, err := c.receive()
	if err != nil {
		return err
	}
	defer data.Free()
	if err := c.edge.options.Codec.Unmarshal(data, m); err != nil {
		return status.Errorf(codes.Internal, "decoding the request: %v", err)
	}
	return nil
}

// receive returns the next message.
func (c *call) receive() (mem.BufferSlice, error) {
	c.mu.Lock()
	if c.finished {
		c.mu.Unlock()
		return nil, errFinished
	}
	c.reading.Add(1)
	c.mu.Unlock()
	defer c.reading.Done()
	err := c.frames.next()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil:
		c.drained = true
		return nil, c.readError(err)
	case c.finished:
		return nil, errFinished
	case c.transcoded:
		return c.decode()
	}
	frame := c.frames.frame
	c.frames.frame = nil
	if frame[0] != 0 {
		return nil, invalid("invalid_request", "a message is compressed, but the call names no compression").grpc()
	}
	return mem.BufferSlice{mem.SliceBuffer(frame[prefixLen:])}, nil
}

// decode reads a message from the transcoder, which has it already.
func (c *call) decode() (mem.BufferSlice, error) {
	var prefix [prefixLen]byte
	_, err := io.ReadFull(c.body, prefix[:])
	if errors.Is(err, io.EOF) {
		// It says so too when it could not decode the message, and has told the
		// client; the reason comes with the next read.
		_, err = c.body.Read(prefix[:])
	}
	if err != nil {
		return nil, c.readError(err)
	}
	pool := mem.DefaultBufferPool()
	buf := pool.Get(int(binary.BigEndian.Uint32(prefix[1:])))
	if _, err := io.ReadFull(c.body, *buf); err != nil {
		pool.Put(buf)
		return nil, c.readError(err)
	}
	return mem.BufferSlice{mem.NewBuffer(buf, pool)}, nil
}

// readError makes a status of what reading the request came to.
func (c *call) readError(err error) error {
	var told *connect.Error
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case errors.As(err, &told):
		return statusOfConnect(told)
	case c.ctx.Err() != nil:
		return status.FromContextError(c.ctx.Err()).Err()
	default:
		return status.Error(codes.Canceled, "the caller's request ended early")
	}
}

var _ grpc.ServerStream = (*call)(nil)

// transport is what a handler finds in the context of a call.
type transport struct{ *call }

// SetTrailer implements [grpc.ServerTransportStream].
func (t transport) SetTrailer(md metadata.MD) error {
	t.call.SetTrailer(md)
	return nil
}
