package session

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/clock"
)

// fastValidity is how long a heartbeat of a session with fast release counts at
// most, and how long after the last one nothing releases it.
const fastValidity = 2 * time.Second

// renewShare is the part of the TTL within which a second renewal is spared. It
// is less than the third at which callers send, so that each of theirs is one.
const renewShare = 4

type keepAliveStream = grpc.BidiStreamingServer[sessionv1.KeepAliveRequest, sessionv1.KeepAliveResponse]

// KeepAlive implements SessionService.
func (s *Service) KeepAlive(stream keepAliveStream) error {
	// A client may wait for headers before it sends anything.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	k := &keeper{service: s, beats: make(chan beat)}
	k.ctx, k.cut = context.WithCancelCause(stream.Context())
	defer k.cut(nil)
	defer context.AfterFunc(s.life, func() { k.cut(stopping()) })()
	if !s.start(func() { k.receive(stream) }) {
		return stopping()
	}
	defer s.leave(k)
	for {
		select {
		case <-k.ctx.Done():
			return k.why()
		case b, more := <-k.beats:
			if !more {
				return nil // the caller has said all that it wanted to
			}
			resp, err := k.take(b)
			if err == nil {
				err = stream.Send(resp)
			}
			if err != nil {
				return err
			}
		}
	}
}

func stopping() error {
	return recipe.Errorf(codes.Unavailable, "host_stopping", "the host is stopping")
}

// A beat is a heartbeat and when it arrived.
type beat struct {
	*sessionv1.KeepAliveRequest
	at clock.Stamp
}

// A keeper keeps one session alive for one stream.
type keeper struct {
	service *Service
	ctx     context.Context // ends with the stream, and with what cuts it
	cut     context.CancelCauseFunc
	beats   chan beat // closed when the caller sends no more

	st       *state // from the first beat on
	hold     *hold  // with fast release
	sequence int64

	mu      sync.Mutex
	renewed clock.Stamp   // when the last acknowledged renewal was sent
	flight  chan struct{} // closed when the renewal under way is over; nil: none is
	failure error         // of the last renewal
}

// receive hands on what the caller sends. It outlives the call by a moment, since
// only the end of the call ends a Recv.
func (k *keeper) receive(stream keepAliveStream) {
	defer close(k.beats)
	for {
		r, err := stream.Recv()
		if err != nil {
			return // the end of the stream, whichever way: the call's context says more
		}
		select {
		case k.beats <- beat{r, clock.Now()}:
		case <-k.ctx.Done():
			return
		}
	}
}

// why is the error with which a stream ends that the caller did not end.
func (k *keeper) why() error {
	cause := context.Cause(k.ctx)
	if _, ok := status.FromError(cause); ok {
		return cause
	}
	return status.FromContextError(k.ctx.Err()).Err()
}

// take answers one heartbeat.
func (k *keeper) take(b beat) (*sessionv1.KeepAliveResponse, error) {
	if k.st == nil {
		if err := k.begin(b); err != nil {
			return nil, err
		}
	} else if err := k.check(b); err != nil {
		return nil, err
	}
	k.sequence = b.GetSequence()
	if k.hold != nil && !k.hold.beat(b.at) {
		return nil, recipe.Errorf(codes.Unavailable, "connection_closed", "the connection has ended")
	}
	left, err := k.keep(b.at)
	if err != nil {
		return nil, err
	}
	if k.hold != nil {
		left = min(left, fastValidity)
	}
	return &sessionv1.KeepAliveResponse{Sequence: b.GetSequence(), Ttl: durationpb.New(left)}, nil
}

// begin takes the first request, which says whose stream it is.
func (k *keeper) begin(b beat) error {
	st, err := k.service.find(k.ctx, b.GetSessionId(), b.GetNamespace())
	if err != nil {
		return err
	}
	k.st = st
	if st.fast {
		if k.hold, err = k.service.attach(k.ctx, st, b); err != nil {
			return err
		}
	}
	return k.service.enter(k)
}

// check holds later requests to the first.
func (k *keeper) check(b beat) error {
	if id := b.GetSessionId(); id != "" && id != k.st.id.String() {
		return invalid("invalid_session_id", "session_id: is not the one that the stream began with")
	}
	if ns := b.GetNamespace(); b.GetSessionId() != "" && ns != k.st.namespace && (ns != "" || k.st.namespace != defaultNamespace) {
		return invalid("invalid_namespace", "namespace: is not the one that the stream began with")
	}
	if b.GetSequence() <= k.sequence {
		return invalid("invalid_sequence", "sequence: %d does not grow, the last one was %d", b.GetSequence(), k.sequence)
	}
	return nil
}

// keep renews the lease if that is due, and returns how long it stands for
// certain, counted from at.
func (k *keeper) keep(at clock.Stamp) (time.Duration, error) {
	remaining, due := k.remaining(at)
	if due {
		flight := k.renew()
		// With fast release the heartbeat itself is the news, and must not wait for
		// an etcd that elects a leader, as long as the lease stands.
		if k.hold == nil || remaining < fastValidity {
			select {
			case <-flight:
			case <-k.ctx.Done():
			}
		}
	}
	if k.ctx.Err() != nil {
		return 0, k.why()
	}
	if remaining, _ = k.remaining(at); remaining > 0 {
		return remaining, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return 0, renewFailed(k.ctx, k.failure)
}

// remaining is how long the lease stands for certain after at, and whether the
// last renewal is so long ago that another one is due.
func (k *keeper) remaining(at clock.Stamp) (time.Duration, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	l := left(k.st.ttl, k.renewed, at)
	return l, l <= k.st.ttl-k.st.ttl/renewShare
}

// renew starts a renewal unless one is under way, and returns a channel that is
// closed when it is over.
func (k *keeper) renew() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.flight != nil {
		return k.flight
	}
	done := make(chan struct{})
	k.flight = done
	run := func() {
		sent, err := k.service.renew(k.ctx, k.st)
		k.mu.Lock()
		if k.failure = err; err == nil {
			k.renewed = sent
		}
		k.flight = nil
		k.mu.Unlock()
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			k.cut(renewFailed(k.ctx, err))
		}
		close(done)
	}
	if !k.service.start(run) {
		k.flight = nil
		k.cut(stopping())
		close(done)
	}
	return done
}

// enter makes k the stream of its session; the one before ends.
func (s *Service) enter(k *keeper) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.streams[k.st.id]; old != nil {
		if old.hold != nil && k.hold != nil && old.hold.rev > k.hold.rev {
			return replaced()
		}
		old.cut(replaced())
	}
	s.streams[k.st.id] = k
	return nil
}

func (s *Service) leave(k *keeper) {
	if k.st == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[k.st.id] == k {
		delete(s.streams, k.st.id)
	}
}

func replaced() error {
	return conflict("another KeepAlive stream of the session has taken the place of this one")
}
