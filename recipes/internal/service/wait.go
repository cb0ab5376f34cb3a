package service

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/engine"
)

// ErrWaited is the cause of the end of a wait that took as long as it may.
var ErrWaited = errors.New("waited long enough")

// Forever stands for a wait until the call's deadline.
const Forever = time.Duration(-1)

// Duration reads a duration that may be absent.
func Duration(field string, d *durationpb.Duration, absent time.Duration) (time.Duration, error) {
	if d == nil {
		return absent, nil
	}
	if d.CheckValid() != nil || d.AsDuration() < 0 {
		return 0, Invalidf(field, "is negative or too long")
	}
	return d.AsDuration(), nil
}

// Waiting returns the context of a wait. It ends with ctx and after the wait's
// own time. If it is the host that ends the call, and not the caller, the place
// in line stays for the next host, which core.ErrSessionClosed stands for.
func (s *Service) Waiting(ctx context.Context, wait time.Duration) (context.Context, func()) {
	waiting := engine.Join(ctx, s.ctx, endOf, func() error { return core.ErrSessionClosed })
	if wait <= 0 {
		return waiting, waiting.Release
	}
	bounded, cancel := context.WithCancelCause(waiting)
	timer := time.AfterFunc(wait, func() { cancel(ErrWaited) })
	return bounded, func() {
		timer.Stop()
		cancel(nil)
		waiting.Release()
	}
}

// endOf is why a wait ends with its call, which ended by a cause.
func endOf(cause error) error {
	if errors.Is(cause, context.Canceled) || errors.Is(cause, context.DeadlineExceeded) {
		return cause
	}
	return core.ErrSessionClosed
}
