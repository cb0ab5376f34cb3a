package barrier

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/barrier/internal/rendezvous"
	"github.com/conclavehq/conclave/core"
)

// A Double barrier lets its parties enter a phase together and leave it together.
// It is immutable and safe for concurrent use: what Enter returns has the state.
type Double struct {
	h       *rendezvous.Hall
	name    string
	parties int
	o       options
}

// NewDouble returns the double barrier of a name, for 1 to 10,000 parties. It does
// no I/O; an argument outside its limits makes every call return core.ErrInvalid.
func NewDouble(s *core.Session, name string, parties int, opts ...Option) *Double {
	return &Double{h: rendezvous.For(s, recipe), name: name, parties: parties, o: optionsOf(opts)}
}

// Enter waits until as many as the barrier has parties are there, and enters with
// them. Two calls of one session are two parties. When all have left, the next
// generation begins; the barrier can be used again at once.
//
// If ctx ends first the caller is taken back, and the error is ctx.Err(); unless
// the generation was complete before: then it returns the entry. If etcd does not
// say within half a second which it was, the error is core.ErrUnknownOutcome too,
// and an entry that was made is left again.
//
// Other errors are [ErrFull], [ErrPartiesMismatch], [ErrBroken] if a member was
// lost and the generation breaks on that, core.ErrKeyDeleted if an operator removed
// the caller, core.ErrSessionExpired, core.ErrSessionClosed and core.ErrInvalid.
// Nothing of the caller is left in etcd then.
func (d *Double) Enter(ctx context.Context) (*Entry, error) {
	_, m, err := d.h.Arrive(ctx, &rendezvous.Request{Name: d.name, Kind: rendezvous.Double, Parties: d.parties,
		Breaks: d.o.breaks, Purpose: d.o.purpose, OnePerLease: d.o.one, Operation: d.o.operation, Lost: ending("double barrier", d.name)})
	if err != nil {
		return nil, named("double barrier", d.name, err)
	}
	return &Entry{name: d.name, m: m}, nil
}

// Resume returns the entry that the session has in the present generation, whatever
// process of the session entered, after one read of etcd. A token that is not 0
// must be that of the entry.
//
// It returns [ErrLost] if the session is not inside; nothing was written.
func (d *Double) Resume(ctx context.Context, token core.Token) (*Entry, error) {
	m, err := d.h.Resume(ctx, d.name, int64(token), ending("double barrier", d.name))
	if err != nil {
		return nil, named("double barrier", d.name, err)
	}
	return &Entry{name: d.name, m: m}, nil
}

// An Entry is a member's place in one generation, from Enter to Leave.
type Entry struct {
	name string
	m    *rendezvous.Member
}

var _ core.Ownership = (*Entry)(nil)

// Context ends when the member drops out, so that a phase does not run on after its
// place is gone: at the latest when etcd could take the place away. context.Cause is
// core.ErrReleased after Leave, else an error that is [ErrLost] and one of core's
// causes. It carries the token (core.TokenFrom) and the values of the context that
// Enter was called with.
func (e *Entry) Context() context.Context { return e.m.Context() }

// Token returns the fencing token: larger than that of every member of an earlier
// generation, and different from that of every other member.
func (e *Entry) Token() core.Token { return e.m.Token() }

// IsOwner is the comparison that holds in etcd as long as the member is inside.
func (e *Entry) IsOwner() clientv3.Cmp { return e.m.IsOwner() }

// Generation returns which generation it is, from 1 on, one more each time.
func (e *Entry) Generation() int64 { return e.m.Generation() }

// Commit runs ops in one etcd transaction that commits only while the member is
// inside. If it is not, it changes nothing and returns [ErrLost]; the error is
// core.ErrUnknownOutcome if nobody knows whether it committed.
func (e *Entry) Commit(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	resp, err := e.m.Commit(ctx, ops)
	return resp, named("double barrier", e.name, err)
}

// Leave ends the entry and waits until all members of its generation have left or
// died. The entry ends at once, and also if ctx ends before the others have left;
// Leave may be called again to wait on.
//
// It returns an error that is ctx.Err() when ctx ends first, one that is [ErrLost]
// if the entry was lost before, or the session ends while it waits, and
// core.ErrUnknownOutcome if etcd did not answer for a TTL.
func (e *Entry) Leave(ctx context.Context) error {
	return named("double barrier", e.name, e.m.Leave(ctx))
}

// Detach ends the Entry and leaves the member inside, for [Double.Resume] here or
// in another process that serves the session: its context ends with [ErrDetached].
// It is idempotent.
func (e *Entry) Detach() { e.m.Detach() }
