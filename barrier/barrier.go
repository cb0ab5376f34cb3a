package barrier

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/barrier/internal/rendezvous"
	"github.com/conclavehq/conclave/core"
)

// A Barrier is closed while anybody holds it; others wait until nobody does. It is
// immutable and safe for concurrent use: what Hold returns has the state.
type Barrier struct {
	h    *rendezvous.Hall
	name string
	o    options
}

// New returns the barrier of a name. It does no I/O; a name or option outside its
// limits makes every call return core.ErrInvalid.
func New(s *core.Session, name string, opts ...Option) *Barrier {
	return &Barrier{h: rendezvous.For(s, recipe), name: name, o: optionsOf(opts)}
}

// Hold closes the barrier until the hold is released, or the session ends. It does
// not wait: any number may hold it at one time, and the barrier opens when the last
// of them lets go.
//
// It returns core.ErrInvalid with nothing written, core.ErrSessionExpired or
// core.ErrSessionClosed, or an error that is ctx.Err() when ctx ends first: then
// nothing of it is left, at once or within a second if etcd is slow.
func (b *Barrier) Hold(ctx context.Context) (*Hold, error) {
	held, err := b.h.Hold(ctx, &rendezvous.HoldRequest{Name: b.name, Purpose: b.o.purpose, Persistent: b.o.persistent,
		Guarded: b.o.breaks, OnePerLease: b.o.one, Lost: ending("barrier", b.name)})
	if err != nil {
		return nil, named("barrier", b.name, err)
	}
	return &Hold{name: b.name, held: held}, nil
}

// Wait waits until nobody holds the barrier. It returns nil only after a
// linearizable read showed that, and at once if nobody does.
//
// It returns [ErrBroken] if a holder was lost that had asked for that (see
// [WithBreakOnLoss]), an error that is ctx.Err() when ctx ends first, and
// core.ErrSessionExpired or core.ErrSessionClosed. It writes nothing.
func (b *Barrier) Wait(ctx context.Context) error {
	return named("barrier", b.name, b.h.Wait(ctx, b.name))
}

// Holders returns who holds the barrier, and whose loss broke it, by one
// linearizable read.
func (b *Barrier) Holders(ctx context.Context) ([]Party, error) {
	all, err := b.h.Holders(ctx, b.name)
	if err != nil {
		return nil, named("barrier", b.name, err)
	}
	return partiesOf(all), nil
}

// Resume returns the hold that the session has, whatever process of the session
// wrote it, after one read of etcd; with its token also a persistent one of any
// session. A token that is not 0 must be that of the hold.
//
// It returns [ErrLost] if there is no such hold; nothing was written.
func (b *Barrier) Resume(ctx context.Context, token core.Token) (*Hold, error) {
	held, err := b.h.ResumeHold(ctx, b.name, int64(token), ending("barrier", b.name))
	if err != nil {
		return nil, named("barrier", b.name, err)
	}
	return &Hold{name: b.name, held: held}, nil
}

// Open takes all holds away, persistent ones too, and returns how many there were.
// Their owners' contexts end. It is the act of an operator: who holds a barrier
// does not expect it.
func (b *Barrier) Open(ctx context.Context) (int, error) {
	n, err := b.h.Open(ctx, b.name)
	return n, named("barrier", b.name, err)
}

// A Hold keeps a barrier closed. It is a value of its own: a later hold of the same
// barrier is another one.
type Hold struct {
	name string
	held *rendezvous.Held
}

var _ core.Ownership = (*Hold)(nil)

// Context ends when the hold does, at the latest when etcd could open the barrier.
// context.Cause is core.ErrReleased after Release, else an error that is [ErrLost]
// and one of core's causes. That of a persistent hold ends with the session too,
// though the barrier stays closed. It carries the token (core.TokenFrom) and the
// values of the context that Hold was called with.
func (h *Hold) Context() context.Context { return h.held.Context() }

// Token returns the fencing token.
func (h *Hold) Token() core.Token { return h.held.Token() }

// IsOwner is the comparison that holds in etcd as long as the hold stands.
func (h *Hold) IsOwner() clientv3.Cmp { return h.held.IsOwner() }

// Commit runs ops in one etcd transaction that commits only while the hold stands.
// If it does not, it changes nothing and returns [ErrLost]; the error is
// core.ErrUnknownOutcome if nobody knows whether it committed.
func (h *Hold) Commit(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	resp, err := h.held.Commit(ctx, ops)
	return resp, named("barrier", h.name, err)
}

// Release lets go. It needs no context: it is bounded by the session's TTL and
// works after the work's context was cancelled. It is idempotent; every call
// returns the same.
//
// It returns nil if the hold stood until now, an error that is [ErrLost] if it did
// not, and core.ErrUnknownOutcome if etcd did not answer for a TTL.
func (h *Hold) Release() error { return named("barrier", h.name, h.held.Release()) }

// Detach ends the Hold and leaves the barrier held, for [Barrier.Resume] here or in
// another process that serves the session: its context ends with [ErrDetached]. It
// is idempotent.
func (h *Hold) Detach() { h.held.Detach() }
