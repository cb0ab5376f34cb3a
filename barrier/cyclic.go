package barrier

import (
	"context"

	"github.com/conclavehq/conclave/barrier/internal/rendezvous"
	"github.com/conclavehq/conclave/core"
)

// A Cyclic barrier is a point at which its parties meet, again and again. It is
// immutable and safe for concurrent use.
type Cyclic struct {
	h       *rendezvous.Hall
	name    string
	parties int
	o       options
}

// NewCyclic returns the cyclic barrier of a name, for 1 to 10,000 parties. It does
// no I/O; an argument outside its limits makes every call return core.ErrInvalid.
func NewCyclic(s *core.Session, name string, parties int, opts ...Option) *Cyclic {
	return &Cyclic{h: rendezvous.For(s, recipe), name: name, parties: parties, o: optionsOf(opts)}
}

// Await waits until as many as the barrier has parties are there, and returns the
// number of their generation: 1 for the first, and one more for each that was
// complete or broken. Two calls of one session are two parties. More than the
// parties are the next generation's.
//
// If a member is lost while it waits, all others of its generation get [ErrBroken]
// with its owner ([LostMember]); the next generation works. A member whose ctx ends
// goes without breaking anything: the error is ctx.Err(), unless the generation was
// complete before. If etcd does not say within half a second which it was, the error
// is core.ErrUnknownOutcome too.
//
// Other errors are [ErrPartiesMismatch], core.ErrKeyDeleted if an operator removed
// the caller, core.ErrSessionExpired, core.ErrSessionClosed, core.ErrInvalid, and
// core.ErrUnknownOutcome for a member that was cut off from etcd for so long that
// nobody remembers its generation.
func (c *Cyclic) Await(ctx context.Context) (generation int64, err error) {
	generation, _, err = c.h.Arrive(ctx, &rendezvous.Request{Name: c.name, Kind: rendezvous.Cyclic, Parties: c.parties,
		Purpose: c.o.purpose, OnePerLease: c.o.one, Operation: c.o.operation, Lost: ending("cyclic barrier", c.name)})
	return generation, named("cyclic barrier", c.name, err)
}
