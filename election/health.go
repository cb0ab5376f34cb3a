package election

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/conclavehq/conclave/internal/waitqueue"
)

// checkHealth runs the check once, if there is one.
func (e *Election) checkHealth(ctx context.Context) error {
	if e.o.check == nil {
		return nil
	}
	bounded, cancel := context.WithTimeout(ctx, e.o.every)
	defer cancel()
	err := e.o.check(bounded)
	switch {
	case ctx.Err() != nil: // it is not the check that failed
		return errors.Join(ctx.Err(), context.Cause(ctx))
	case err == nil:
		err = bounded.Err()
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnhealthy, err)
	}
	return nil
}

// untilHealthy waits until the check passes.
func (e *Election) untilHealthy(ctx context.Context) error {
	for {
		err := e.checkHealth(ctx)
		if !errors.Is(err, ErrUnhealthy) {
			return err
		}
		e.s.Engine().Log().Debug("candidate does not stand", "election", e.name, "error", err)
		timer := time.NewTimer(e.o.every)
		select {
		case <-timer.C:
		case <-ctx.Done():
		case <-e.s.Context().Done():
			timer.Stop()
			return context.Cause(e.s.Context())
		}
		timer.Stop()
	}
}

// watchHealth checks a leader as long as it leads. The session waits for it.
func (e *Election) watchHealth(t *Term, grace time.Duration) {
	engine := e.s.Engine()
	if e.o.check == nil || !engine.Enter() {
		return
	}
	defer engine.Leave()
	engine.Go(func(ctx context.Context) {
		if err := e.whileHealthy(t); err != nil && grace >= 0 {
			e.s.Engine().Log().Warn("leader failed its check", "election", t.name, "token", int64(t.Token()), "error", err)
			timer := time.NewTimer(grace)
			defer timer.Stop()
			select {
			case <-timer.C:
				_ = t.Resign()
			case <-t.resigned:
			case <-ctx.Done():
			}
		}
	})
}

// whileHealthy checks until the term ends, or the check fails: then it ends the
// term's context and returns why.
func (e *Election) whileHealthy(t *Term) error {
	ctx := t.Context()
	ticker := time.NewTicker(e.o.every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		// A check that does not return in time has failed already then.
		late := time.AfterFunc(e.o.every, func() { e.stepDown(t, fmt.Errorf("%w: %w", ErrUnhealthy, context.DeadlineExceeded)) })
		err := e.checkHealth(ctx)
		late.Stop()
		if ctx.Err() != nil && !errors.Is(context.Cause(ctx), ErrUnhealthy) {
			return nil
		}
		if err != nil {
			e.stepDown(t, err)
			return context.Cause(ctx)
		}
	}
}

// stepDown ends the context of a leader that failed its check.
func (e *Election) stepDown(t *Term, err error) {
	t.owned.Because(waitqueue.CauseUnhealthy, e.s.Owner()+": "+err.Error())
	t.owned.Yield(released(t.name, err))
}
