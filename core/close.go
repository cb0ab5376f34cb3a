package core

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/conclavehq/conclave/internal/clock"
)

// Close ends the session: contexts end with [ErrSessionClosed], releases that
// were queued are sent, and the lease is revoked, so that etcd deletes what is
// still owned. It takes at most the TTL and is idempotent.
//
// It returns [ErrSessionExpired] if the session was lost before, and
// [ErrUnknownOutcome] if the revocation was not acknowledged; the lease then
// ends by itself, at the latest a TTL after its last renewal. A session that a
// [Lender] made ends here only, as by Orphan.
func (s *Session) Close() error {
	s.leave(s.revoke)
	return s.closeErr
}

// Orphan ends the session here, with [ErrSessionClosed], but leaves the lease
// and its keys in etcd for what remains of the TTL, so that a successor can
// resume it by [WithLease]. It does nothing after Close.
func (s *Session) Orphan() {
	s.leave(func() error { return nil })
}

func (s *Session) finish(last func() error) {
	s.end.Do(func() {
		if s.lender != nil {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			s.giveBack(ctx)
			return
		}
		defer close(s.closed)
		_ = s.ctx.Check() // a loss that nobody has noticed yet is a loss all the same
		s.ctx.End(ErrSessionClosed)
		s.stopRenewing()
		<-s.renewing
		if errors.Is(s.ctx.Check(), ErrSessionExpired) {
			s.closeErr = fmt.Errorf("session: %w", ErrSessionExpired)
			s.cut()
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.engine.Close(ctx)
		s.closeErr = last()
	})
	<-s.closed
}

// cut ends the engine without waiting for requests: etcd takes the keys away.
func (s *Session) cut() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	s.engine.Close(ended)
}

// revoke ends the leases, the session's own first: what follows an ownership
// must not vanish while the ownership stands.
func (s *Session) revoke() error {
	var err error
	for delay := 50 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		left := s.leaseLeft()
		if left <= 0 {
			return fmt.Errorf("session: revoke the lease: %w: %w", ErrUnknownOutcome, err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), min(left, 5*time.Second))
		_, err = s.client.Revoke(ctx, s.lease)
		if err == nil || errors.Is(err, rpctypes.ErrLeaseNotFound) {
			err = s.engine.RevokeDelays(ctx)
			cancel()
			return err
		}
		cancel()
		if s.client.Ctx().Err() != nil {
			return fmt.Errorf("session: revoke the lease: %w: client is closed", ErrUnknownOutcome)
		}
		timer := time.NewTimer(min(delay, max(s.leaseLeft(), 0)))
		<-timer.C
	}
}

// leaseLeft returns what is left of the TTL since the last renewal was sent.
func (s *Session) leaseLeft() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ttl - clock.Since(s.acked)
}
