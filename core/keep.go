package core

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Keep opens a session and runs run with it; when the session is lost it waits
// for run to return, and opens the next. The ctx that run gets ends when the
// session or ctx does.
//
// Keep returns what run returned, if that was not the session's loss: an error
// that is [ErrSessionExpired] or context.Canceled while the session is expired
// starts the next round, any other one, and nil, ends Keep. When ctx ends it
// returns the cause, unless run had another error to tell. It returns
// [ErrInvalid] for options outside their limits. While etcd cannot be reached
// it keeps trying, at most 5 s apart.
//
// With [WithLease] the first round resumes that lease, if it still stands;
// later rounds grant leases of their own.
func Keep(ctx context.Context, c *clientv3.Client, run func(ctx context.Context, s *Session) error, opts ...SessionOption) error {
	wait := backoff.NewExponentialBackOff()
	wait.MaxInterval = 5 * time.Second
	for {
		s, err := NewSession(ctx, c, opts...)
		switch {
		case err == nil:
			wait.Reset()
			if again, err := runWith(ctx, s, run); !again {
				return err
			}
			opts = withoutLease(opts)
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrInvalid):
			return err
		case errors.Is(err, ErrSessionExpired):
			opts = withoutLease(opts)
		}
		timer := time.NewTimer(wait.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
	}
}

// runWith runs one session's round, and reports whether another shall follow.
func runWith(ctx context.Context, s *Session, run func(context.Context, *Session) error) (again bool, err error) {
	runCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.Context(), func() { cancel(context.Cause(s.Context())) })
	defer stop()
	defer func() { _ = s.Close() }() // also when run panics
	err = run(runCtx, s)
	lost := errors.Is(s.ctx.Check(), ErrSessionExpired)
	closeErr := s.Close()
	switch {
	case ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())):
		return false, context.Cause(ctx)
	case ctx.Err() == nil && lost && (errors.Is(err, ErrSessionExpired) || errors.Is(err, context.Canceled)):
		return true, nil
	case err == nil && closeErr != nil && !lost:
		return false, fmt.Errorf("keep: %w", closeErr)
	}
	return false, err
}

// withoutLease is for the rounds after the one that resumed a lease.
func withoutLease(opts []SessionOption) []SessionOption {
	return append(slices.Clip(opts), WithLease(clientv3.NoLease))
}
