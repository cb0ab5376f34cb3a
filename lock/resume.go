package lock

import (
	"context"
	"fmt"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// A Place is a lock that is held, or permits, as a plain value of about a hundred
// bytes: what a release needs to know. Nothing watches it.
type Place struct{ at waitqueue.Place }

// Token returns the fencing token, 0 of the zero Place.
func (p Place) Token() core.Token { return core.Token(p.at.Token()) }

// Detach ends the Held and leaves the lock held: its context ends with
// [ErrDetached], which Unlock then returns too, as an error that is [ErrLost].
// The lock belongs to the session until [Resume] or [ResumeAt], here or in
// another process that serves the session, and its Unlock.
//
// It is idempotent. It returns [ErrLost] if the lock was lost or released
// before, and core.ErrInvalid for a [Multi] and for a lock that goroutines of
// one session take in turn, unless it was acquired [WithOnePerSession].
func (h *Held) Detach() (Place, error) { return detach(h.owned) }

// Detach is [Held.Detach] for permits.
func (p *Permit) Detach() (Place, error) { return detach(p.owned) }

func detach(o *waitqueue.Owned) (Place, error) {
	at, err := o.Detach()
	if err != nil {
		return Place{}, named(o.Names(), err)
	}
	return Place{at}, nil
}

// Resume returns what the session holds of a name, in whatever mode and by
// whatever process of the session it was acquired, after one read of etcd. A
// token that is not 0 must be that of the lock. Permits come as a Held too.
//
// It returns [ErrLost] if the session does not hold the name, and an error that
// is [ErrStaleToken] as well if it does by another token; nothing was written.
func Resume(ctx context.Context, s *core.Session, name string, token core.Token) (*Held, error) {
	names := []string{name}
	o, err := waitqueue.For(s, recipe).Resume(ctx, name, int64(token), lost(names))
	if err != nil {
		return nil, named(names, err)
	}
	return &Held{o}, nil
}

// ResumeAt is Resume for a place that is known, without asking etcd: if the lock
// is not held there any more, Unlock and Commit find out. It returns an error
// only if the session has ended, or the place is the zero one.
func ResumeAt(s *core.Session, name string, p Place) (*Held, error) {
	names := []string{name}
	o, err := waitqueue.For(s, recipe).ResumeAt(name, p.at, lost(names))
	if err != nil {
		return nil, named(names, fmt.Errorf("resume: %w", err))
	}
	return &Held{o}, nil
}
