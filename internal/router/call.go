package router

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/internal/reason"
)

// A call is the stream that the chain and the service see, around the one of the
// transport. The chain replaces its context; reading ends when the call does.
type call struct {
	grpc.ServerStream

	router *Router
	route  *route
	set    atomic.Pointer[set] // whose service it is, for whoever ends the set's calls
	open   atomic.Bool         // it is a stream; set before set is
	ctx    context.Context
	own    ending // which ctx derives from, once the call is in the register

	server   server
	identity string
	md       metadata.MD // in ctx, as the chain left it
	frame    frame       // the message that was read last
	peeked   bool        // the chain has read it, and it is to be read once more
	pump     *pump       // nil unless the caller may send more than one message
	in       *pipe       // nil: it came alone. Else md has been its own metadata from the start

	below       grpc.ServerTransportStream // of the transport, for unary services
	older, next *call                      // in the register
}

// Context implements grpc.ServerStream.
func (c *call) Context() context.Context { return c.ctx }

// SetHeader implements grpc.ServerStream.
func (c *call) SetHeader(md metadata.MD) error { return c.ServerStream.SetHeader(outbound(md)) }

// SendHeader implements grpc.ServerStream.
func (c *call) SendHeader(md metadata.MD) error { return c.ServerStream.SendHeader(outbound(md)) }

// SetTrailer implements grpc.ServerStream.
func (c *call) SetTrailer(md metadata.MD) { c.ServerStream.SetTrailer(outbound(md)) }

// RecvMsg implements grpc.ServerStream. It returns when the call's context ends,
// also while the caller is silent.
func (c *call) RecvMsg(v any) error {
	f, err := c.receive()
	if err != nil {
		return err
	}
	if out, ok := v.(*frame); ok {
		*out, *f = *f, frame{}
		return nil
	}
	defer f.free()
	if err := Codec().Unmarshal(f.data, v); err != nil {
		return reason.Errorf(codes.InvalidArgument, "invalid_request", "the message is no %s: %v", c.route.method.Descriptor.Input().FullName(), err)
	}
	return nil
}

// peek reads the first message and leaves it to be read.
func (c *call) peek() (*frame, error) {
	f, err := c.receive()
	c.peeked = err == nil
	return f, err
}

// receive returns the next message, which is the call's until the one after it.
func (c *call) receive() (*frame, error) {
	f := &c.frame
	if c.peeked {
		c.peeked = false
		return f, nil
	}
	var err error
	if c.pump != nil {
		*f, err = c.pump.next(c)
	} else {
		f.data = nil
		err = c.ServerStream.RecvMsg(f)
	}
	if err != nil {
		return nil, err
	}
	if most := c.router.limits.messageBytes; most > 0 && f.data.Len() > most {
		size := f.data.Len()
		f.free()
		return nil, reason.Errorf(codes.ResourceExhausted, "limit_message", "the message has %d bytes, the limit is %d", size, most)
	}
	return f, nil
}

// firstMissing tells a caller that ended a call without its request.
func firstMissing(err error) error {
	if errors.Is(err, io.EOF) {
		return reason.Errorf(codes.InvalidArgument, "invalid_request", "the call has no message")
	}
	return err
}

// A pump reads the caller's messages, one ahead, so that a call can end while its
// caller is silent: nothing but the end of the call interrupts a transport's
// RecvMsg. Its goroutine belongs to the router, because it ends after the call.
type pump struct {
	frames chan received
	done   <-chan struct{} // the call has ended
	quit   chan struct{}
	err    error // what every read after the last one returns
}

type received struct {
	frame frame
	err   error
}

func (c *call) startPump() {
	p := &pump{frames: make(chan received), done: c.ctx.Done(), quit: make(chan struct{})}
	c.pump = p
	if !c.router.pumps.enter() {
		return // the router is closed, and so is the call
	}
	go func() {
		defer c.router.pumps.leave()
		for {
			var r received
			r.err = c.ServerStream.RecvMsg(&r.frame)
			select {
			case p.frames <- r:
			case <-p.done:
				r.frame.free()
				return
			}
			if r.err != nil {
				return
			}
		}
	}()
}

func (p *pump) next(c *call) (frame, error) {
	if p.err != nil {
		return frame{}, p.err
	}
	select {
	case r := <-p.frames:
		p.err = r.err
		return r.frame, r.err
	case <-p.done:
		return frame{}, c.ctx.Err()
	case <-p.quit:
		return frame{}, io.EOF
	}
}

// stopReceiving lets a read that waits return, and every one after it. It is
// called once, by whoever waits for the reader.
func (c *call) stopReceiving() {
	if c.pump != nil {
		close(c.pump.quit)
	}
}
