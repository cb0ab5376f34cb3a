package router

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/internal/reason"
)

// A Proxy forwards the calls of some services to a connection, which changes when
// the process behind it does. It is safe for concurrent use.
type Proxy struct {
	router *Router
	target atomic.Pointer[target]
	reason atomic.Pointer[string] // why nobody need wait; nil: for a connection one may
}

// A target is one connection of a proxy.
type target struct {
	conn  grpc.ClientConnInterface
	done  <-chan struct{}
	users *group
}

// Connect sends new calls, and those that were held, to conn. done is closed when
// the process at its other end is gone; nil: it never is. Calls in flight go on
// where they are: the channel that Connect returns is closed when none uses the
// connection before, which its owner may then close, and at once if there was
// none.
func (p *Proxy) Connect(conn grpc.ClientConnInterface, done <-chan struct{}) (idle <-chan struct{}) {
	p.reason.Store(nil)
	return p.change(&target{conn: conn, done: done, users: newGroup()})
}

// StayDown says that no connection will come by itself: until the next Connect
// calls are not held, and fail at once with UNAVAILABLE, recipe_restarting, and the
// text. It comes after a Disconnect.
func (p *Proxy) StayDown(text string) {
	p.reason.Store(&text)
	p.router.touch()
}

func (p *Proxy) down() string {
	if text := p.reason.Load(); text != nil {
		return *text
	}
	return ""
}

// Disconnect holds new calls until the next Connect: for at most Config.Hold,
// after which they fail with UNAVAILABLE, recipe_restarting. Call it when the
// process has ended too, so that whoever watches its health is told. The channel
// is that of [Proxy.Connect].
func (p *Proxy) Disconnect() (idle <-chan struct{}) { return p.change(nil) }

func (p *Proxy) change(t *target) <-chan struct{} {
	old := p.target.Swap(t)
	p.router.touch()
	if old == nil {
		idle := make(chan struct{})
		close(idle)
		return idle
	}
	old.users.close() // after the swap: who finds it closed looks again, and finds the new one
	return old.users.idle
}

func (p *Proxy) ready() bool {
	t := p.target.Load()
	return t != nil && !t.ended()
}

func (p *Proxy) acquire() (server, func(), bool) {
	t := p.target.Load()
	if t == nil || t.ended() || !t.users.enter() {
		return nil, nil, false
	}
	return t, t.users.leave, true
}

// ended reports whether the process is gone.
func (t *target) ended() bool {
	select {
	case <-t.done:
		return true
	default:
		return false
	}
}

func (t *target) serve(m *Method, stream grpc.ServerStream) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	ctx := metadata.NewOutgoingContext(stream.Context(), md)
	forward := t.stream
	if d := m.Descriptor; !d.IsStreamingClient() && !d.IsStreamingServer() {
		forward = t.unary
	}
	if err := forward(ctx, m, stream); err != nil {
		return t.answer(stream.Context(), err)
	}
	return nil
}

// unary forwards a call with one message each way, without a goroutine.
func (t *target) unary(ctx context.Context, m *Method, stream grpc.ServerStream) error {
	var request, reply frame
	if err := stream.RecvMsg(&request); err != nil {
		return own(firstMissing(err))
	}
	var header, trailer metadata.MD
	err := t.conn.Invoke(ctx, m.FullName, &request, &reply, grpc.ForceCodecV2(Codec()), grpc.Header(&header), grpc.Trailer(&trailer))
	stream.SetTrailer(trailer)
	if len(header) > 0 {
		if err := stream.SetHeader(header); err != nil {
			return own(err)
		}
	}
	if err != nil {
		return err
	}
	return own(stream.SendMsg(&reply))
}

// stream forwards a call with a stream in at least one direction, one message at
// a time in each.
func (t *target) stream(ctx context.Context, m *Method, stream grpc.ServerStream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d := m.Descriptor
	desc := &grpc.StreamDesc{ClientStreams: d.IsStreamingClient(), ServerStreams: d.IsStreamingServer()}
	away, err := t.conn.NewStream(ctx, desc, m.FullName, grpc.ForceCodecV2(Codec()))
	if err != nil {
		return err
	}
	if !d.IsStreamingClient() {
		if err := up(stream, away); err != nil {
			return own(firstMissing(err))
		}
		return down(away, stream)
	}
	failed := make(chan error, 1)
	go func() {
		err := upAll(stream, away)
		if err != nil {
			cancel()
		}
		failed <- err
	}()
	err = down(away, stream)
	cancel()
	if c, ok := callFrom(stream.Context()); ok {
		c.stopReceiving()
	}
	if upErr := <-failed; upErr != nil && err != nil {
		return own(upErr) // what went wrong with the caller's messages is why the other end stopped
	}
	return err
}

// up forwards the caller's only message.
func up(stream grpc.ServerStream, away grpc.ClientStream) error {
	var f frame
	if err := stream.RecvMsg(&f); err != nil {
		return err
	}
	if err := away.SendMsg(&f); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return away.CloseSend()
}

// upAll forwards the caller's messages until there are no more, or the other end
// wants none: why, it says in its own direction.
func upAll(stream grpc.ServerStream, away grpc.ClientStream) error {
	for {
		var f frame
		err := stream.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return away.CloseSend()
		}
		if err != nil {
			return err
		}
		if err := away.SendMsg(&f); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// down forwards what the service answers.
func down(away grpc.ClientStream, stream grpc.ServerStream) error {
	header, err := away.Header()
	if err == nil && header != nil {
		if err := stream.SendHeader(header); err != nil {
			return own(err)
		}
	}
	for {
		var f frame
		err := away.RecvMsg(&f)
		if err != nil {
			stream.SetTrailer(away.Trailer())
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&f); err != nil {
			return own(err)
		}
	}
}

// An ownError is one of the caller's side of a forwarded call: it says nothing of
// the connection to the service.
type ownError struct{ error }

func (e ownError) Unwrap() error { return e.error }

func own(err error) error {
	if err == nil {
		return nil
	}
	return ownError{err}
}

// answer makes an error of the service's side one for the caller. A connection
// that fails does so in grpc-go's words, which name the socket: whatever has no
// details may be such, because only the other end adds them. The same words
// follow those on a deadline that passed while the connection failed.
func (t *target) answer(ctx context.Context, err error) error {
	if mine, ok := errors.AsType[ownError](err); ok {
		return mine.error
	}
	st := status.Convert(err)
	ended := st.Code() == codes.Canceled || st.Code() == codes.DeadlineExceeded
	switch {
	case ended && ctx.Err() != nil:
		return ctx.Err()
	case st.Code() == codes.Canceled && (t.ended() || st.Message() == closingText),
		st.Code() == codes.Unavailable && len(st.Proto().GetDetails()) == 0:
		return restarting("the recipe's process cannot be reached; try again")
	case st.Code() == codes.ResourceExhausted && len(st.Proto().GetDetails()) == 0 && strings.HasPrefix(st.Message(), tooLargeText):
		return reason.Errorf(codes.ResourceExhausted, "limit_message", "the recipe's answer is larger than the host takes")
	}
	return err
}

// tooLargeText is how grpc-go begins when it refuses to read a message.
const tooLargeText = "grpc: received message "

// closingText is what grpc-go says, as CANCELED, of a call on a connection that
// was closed on this side.
const closingText = "grpc: the client connection is closing"
