package core

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/engine"
)

// OnRenewal calls f after every acknowledged renewal, with the time for which
// the session is now valid, and once at once. There is one such function; the
// last one set counts. It must not block. A supervisor in another process can
// be told with it until when the work may go on. A borrowed session renews
// nothing: it calls f once.
func (s *Session) OnRenewal(f func(remaining time.Duration)) {
	s.mu.Lock()
	s.beat = f
	remaining := s.remaining()
	s.mu.Unlock()
	f(remaining)
}

// renew renews the lease until the session ends. It also ends the contexts of
// those who already block.
func (s *Session) renew(ctx context.Context) {
	defer close(s.renewing)
	look := time.NewTimer(s.nextLook())
	defer look.Stop()
	next := time.NewTimer(s.interval())
	defer next.Stop()
	for s.ctx.Check() == nil {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			look.Reset(s.nextLook())
			continue
		case <-next.C:
		}
		err := s.renewWatched(ctx, look)
		switch {
		case err == nil:
			next.Reset(s.interval())
		case errors.Is(err, rpctypes.ErrLeaseNotFound):
			s.expire("etcd ended the lease")
			return
		default:
			s.log.Debug("renewal failed", "lease", int64(s.lease), "error", err)
			next.Reset(s.retryDelay())
		}
	}
	// Close may have ended it, and then flushes what is queued.
	if errors.Is(s.ctx.Check(), ErrSessionExpired) {
		s.expire("renewals were not acknowledged in time")
	}
}

// nextLook is when to compare the clock for those who already block: when the
// session would lapse, and every second, because a timer stands still while the
// machine is suspended.
func (s *Session) nextLook() time.Duration {
	return min(max(s.Remaining(), time.Millisecond), time.Second)
}

// renewWatched renews once, and looks at the clock while it waits.
func (s *Session) renewWatched(ctx context.Context, look *time.Timer) error {
	ctx, cancel := context.WithTimeout(ctx, max(s.ttl/3, 2*time.Second))
	defer cancel()
	result := make(chan error, 1)
	go func() { result <- s.renewOnce(ctx) }()
	for {
		select {
		case err := <-result:
			return err
		case <-look.C:
			if s.ctx.Check() != nil {
				cancel()
				return <-result
			}
			look.Reset(s.nextLook())
		}
	}
}

func (s *Session) renewOnce(ctx context.Context) error {
	if err := s.engine.RenewDelays(ctx); err != nil {
		return err
	}
	sent := clock.Now()
	if _, err := engine.Renew(ctx, s.client, s.lease); err != nil {
		return err
	}
	// A late acknowledgement does not revive: whoever asked after the lapse
	// was told that the session is over.
	if s.State() == Expired {
		return nil
	}
	s.mu.Lock()
	s.acked = sent
	beat, remaining := s.beat, s.ttl-s.margin-clock.Since(sent)
	s.mu.Unlock()
	if beat != nil {
		beat(remaining)
	}
	return nil
}

// interval is a third of the TTL less up to a tenth of it, so that the
// sessions of a restarted fleet do not renew in step.
func (s *Session) interval() time.Duration {
	third := s.ttl / 3
	return third - rand.N(third/10)
}

func (s *Session) retryDelay() time.Duration {
	return min(s.ttl/20, 500*time.Millisecond)/2 + rand.N(min(s.ttl/20, 500*time.Millisecond)/2)
}

func (s *Session) expire(why string) {
	s.ctx.End(ErrSessionExpired)
	if errors.Is(s.ctx.Check(), ErrSessionExpired) {
		s.log.Warn("session expired", "lease", int64(s.lease), "owner", s.owner, "why", why)
	}
	s.cut()
}
