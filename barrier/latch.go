package barrier

import (
	"context"

	"github.com/conclavehq/conclave/barrier/internal/rendezvous"
	"github.com/conclavehq/conclave/core"
)

// A Latch is closed until as many operations as it counts down from were counted.
// What was counted does not depend on any session: it stands until the latch opens,
// whoever dies. It is immutable and safe for concurrent use.
type Latch struct {
	h *rendezvous.Hall
	r rendezvous.LatchRequest
}

// NewLatch returns the latch of a name, which counts down from 1 to 10,000. It does
// no I/O; an argument outside its limits makes every call return core.ErrInvalid.
func NewLatch(s *core.Session, name string, count int, _ ...Option) *Latch {
	return &Latch{h: rendezvous.For(s, recipe), r: rendezvous.LatchRequest{Name: name, Count: count}}
}

// CountDown counts an operation, named by at most 255 bytes. The same name counts
// once in a generation, whoever repeats it and however often. At zero it does
// nothing.
//
// It returns nil if the operation is counted, now or before, core.ErrUnknownOutcome
// if nobody knows whether it is (to repeat it does no harm), [ErrPartiesMismatch],
// core.ErrSessionExpired, core.ErrSessionClosed and core.ErrInvalid. A ctx that ends
// is ctx.Err().
func (l *Latch) CountDown(ctx context.Context, opID string) error {
	_, err := l.h.CountDown(ctx, &l.r, opID)
	return named("latch", l.r.Name, err)
}

// Await waits until the count is at zero, of the generation that counts when it is
// called. It returns nil then, and later until the latch is reset.
//
// It returns an error that is ctx.Err() when ctx ends first, [ErrPartiesMismatch],
// core.ErrSessionExpired, core.ErrSessionClosed and core.ErrInvalid, and
// core.ErrKeyDeleted if an operator deleted the latch.
func (l *Latch) Await(ctx context.Context) error {
	return named("latch", l.r.Name, l.h.Await(ctx, &l.r))
}

// Count returns what is left to count, by a linearizable read. It writes nothing.
func (l *Latch) Count(ctx context.Context) (int, error) {
	n, err := l.h.Left(ctx, &l.r)
	return n, named("latch", l.r.Name, err)
}

// Reset closes a latch that is at zero again, with the count of this Latch. What
// was counted before is forgotten. It returns [ErrCounting] with nothing written if
// the latch is not at zero.
func (l *Latch) Reset(ctx context.Context) error {
	return named("latch", l.r.Name, l.h.Reset(ctx, &l.r))
}
