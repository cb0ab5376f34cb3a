package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/clock"
)

// looking is how often the clock is compared for those who block on the session's
// context.
const looking = 500 * time.Millisecond

// errSilent is why a connection was given up: its host did not answer.
var errSilent = errors.New("the host does not answer")

// live keeps the session alive until ctx or the session ends.
func (s *Session) live(ctx context.Context) {
	defer close(s.done)
	ctx, cancel := context.WithCancel(ctx)
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		s.beat(ctx)
	}()
	tick := time.NewTicker(looking)
	defer tick.Stop()
	for s.ctx.Check() == nil && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-s.ctx.Inner().Done():
		case <-ctx.Done():
		}
	}
	cancel()
	<-beating
}

// beat sends heartbeats to one host after the other.
func (s *Session) beat(ctx context.Context) {
	wait := time.Duration(0)
	for pause(ctx, wait) {
		conn := s.client.conn()
		conn.ResetConnectBackoff()
		err := s.stream(ctx, sessionv1.NewSessionServiceClient(conn))
		if ctx.Err() != nil {
			return
		}
		if recipe.Reason(err) == "session_expired" {
			s.ctx.End(fmt.Errorf("%s: %w", status.Convert(err).Message(), core.ErrSessionExpired))
			return
		}
		// What waits at a host that is silent must ask elsewhere too.
		s.client.next(conn, errors.Is(err, errSilent))
		wait = retryPause
	}
}

// stream keeps the session alive over one stream, and returns why that ended.
func (s *Session) stream(ctx context.Context, to sessionv1.SessionServiceClient) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stream, err := to.KeepAlive(ctx)
	if err != nil {
		return err
	}
	for sequence := int64(1); ; sequence++ {
		sent := clock.Now()
		// A host that took this long is given up, while there is time for another one.
		silent := time.AfterFunc(s.heartbeat, func() { cancel(errSilent) })
		err := stream.Send(&sessionv1.KeepAliveRequest{SessionId: s.id, Namespace: s.cfg.Namespace, Sequence: sequence})
		var resp *sessionv1.KeepAliveResponse
		if err == nil || errors.Is(err, io.EOF) {
			resp, err = stream.Recv()
		}
		silent.Stop()
		switch {
		case errors.Is(context.Cause(ctx), errSilent):
			return errSilent
		case err != nil:
			return err
		case resp.GetSequence() != sequence:
			return status.Errorf(codes.Internal, "heartbeat %d was answered with %d", sequence, resp.GetSequence())
		}
		s.answered(sent, resp.GetTtl().AsDuration())
		if !pause(ctx, s.heartbeat-clock.Since(sent)) {
			return ctx.Err()
		}
	}
}
