package remote

import (
	"context"
	"errors"
	"fmt"
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

// patience is how long a host may take to answer a heartbeat before it is given up:
// short enough that another one can renew before a command under the session would
// be asked to end. If there is no other host, nothing is gained by haste.
func (s *Session) patience() time.Duration {
	if len(s.client.hosts) == 1 {
		return s.heartbeat
	}
	return s.cfg.TTL / 8
}

// beat sends heartbeats to one host after the other.
func (s *Session) beat(ctx context.Context) {
	wait, patience := time.Duration(0), s.patience()
	for pause(ctx, wait) {
		conn := s.client.conn()
		began := clock.Now()
		err := s.stream(ctx, sessionv1.NewSessionServiceClient(conn), patience)
		if ctx.Err() != nil {
			return
		}
		if recipe.Reason(err) == "session_expired" {
			s.ctx.End(fmt.Errorf("%s: %w", status.Convert(err).Message(), core.ErrSessionExpired))
			return
		}
		silent := errors.Is(err, errSilent)
		// What waits at a host that is silent must ask elsewhere too.
		s.client.next(conn, silent)
		wait = retryPause
		switch {
		case s.ackedWithin(clock.Since(began)):
			patience = s.patience()
		case silent:
			// Perhaps it is etcd that is slow, behind every host alike.
			wait, patience = 0, min(2*patience, s.heartbeat)
		}
	}
}

// ackedWithin reports whether a heartbeat sent within the last d was answered.
func (s *Session) ackedWithin(d time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return clock.Since(s.acked) < d
}

// stream keeps the session alive over one stream, and returns why that ended.
func (s *Session) stream(ctx context.Context, to sessionv1.SessionServiceClient, patience time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	stream, err := to.KeepAlive(ctx)
	if err != nil {
		cancel(nil)
		return err
	}
	answers, ended := make(chan *sessionv1.KeepAliveResponse), make(chan error, 1)
	go func() { ended <- receive(ctx, stream, answers) }()
	err = s.beats(ctx, stream, answers, ended, patience)
	cancel(nil)
	if cause := <-ended; err == nil {
		err = cause
	}
	return err
}

// receive hands answers on until the stream ends. Somebody has to receive all the
// time: else a connection that broke is noticed at the next heartbeat only.
func receive(ctx context.Context, stream sessionv1.SessionService_KeepAliveClient, answers chan<- *sessionv1.KeepAliveResponse) error {
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case answers <- resp:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// beats sends heartbeats and takes their answers. It returns nil when the stream has
// ended: ended then has the cause.
func (s *Session) beats(ctx context.Context, stream sessionv1.SessionService_KeepAliveClient,
	answers <-chan *sessionv1.KeepAliveResponse, ended chan error, patience time.Duration,
) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var sent clock.Stamp
	sequence, waiting := int64(0), false
	for {
		select {
		case <-timer.C:
			if waiting {
				return errSilent
			}
			sequence++
			sent, waiting = clock.Now(), true
			// An error of Send says only that Receive has the cause.
			_ = stream.Send(&sessionv1.KeepAliveRequest{SessionId: s.id, Namespace: s.cfg.Namespace, Sequence: sequence})
			timer.Reset(patience)
		case resp := <-answers:
			if resp.GetSequence() != sequence || !waiting {
				return status.Errorf(codes.Internal, "heartbeat %d was answered with %d", sequence, resp.GetSequence())
			}
			waiting = false
			s.answered(sent, resp.GetTtl().AsDuration())
			timer.Reset(max(0, s.heartbeat-clock.Since(sent)))
		case err := <-ended:
			ended <- err
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
