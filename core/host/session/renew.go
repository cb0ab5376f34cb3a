package session

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/protobuf/types/known/durationpb"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/engine"
)

// minRenewal is the least time that a renewal is given.
const minRenewal = 2 * time.Second

// Renew implements SessionService.
func (s *Service) Renew(ctx context.Context, r *sessionv1.RenewRequest) (*sessionv1.RenewResponse, error) {
	received := clock.Now()
	st, err := s.find(ctx, r.GetSessionId(), r.GetNamespace())
	if err != nil {
		return nil, err
	}
	if st.fast {
		return nil, conflict("a session with fast release lives by the heartbeats of KeepAlive")
	}
	sent, err := s.renew(ctx, st)
	if err != nil {
		return nil, renewFailed(ctx, err)
	}
	return &sessionv1.RenewResponse{Ttl: durationpb.New(left(st.ttl, sent, received))}, nil
}

// renew renews a session's lease once, and returns when it asked for that.
func (s *Service) renew(ctx context.Context, st *state) (sent clock.Stamp, err error) {
	ctx, cancel := context.WithTimeout(ctx, min(callBudget, max(st.ttl/3, minRenewal)))
	defer cancel()
	sent = clock.Now()
	_, err = engine.Renew(ctx, s.client, st.lease)
	return sent, err
}

// left is how long a lease that was renewed at renewed stands for certain after
// received, when the request arrived that is answered with it.
func left(ttl time.Duration, renewed, received clock.Stamp) time.Duration {
	// In this order: what passes between the two readings shortens the answer.
	sinceReceived := clock.Since(received)
	return ttl - max(clock.Since(renewed)-sinceReceived, 0)
}

func renewFailed(ctx context.Context, err error) error {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return expired("the session has ended: nothing renewed it in time, or it was closed")
	}
	return repeatable(ctx, err)
}
