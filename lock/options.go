package lock

import (
	"time"

	"github.com/conclavehq/conclave/internal/waitqueue"
)

// An Option sets up a lock. Values outside their limits make every call return
// core.ErrInvalid.
type Option func(*waitqueue.Request)

// WithPriority puts acquisitions ahead of those with a smaller priority, from
// -128 to 127. The default is 0. An owner is not interrupted by it.
func WithPriority(p int) Option {
	return func(r *waitqueue.Request) { r.Priority = p }
}

// WithPurpose says what the lock is held for, at most 256 bytes. Others see it
// in [Contender] and in error messages.
func WithPurpose(text string) Option {
	return func(r *waitqueue.Request) { r.Purpose = text }
}

// WithLockDelay keeps the name from others for d after its owner was lost
// without a release, for resources that cannot check a token. Whole seconds up
// to an hour; etcd times it. It has no effect on read locks and permits, and
// none after a release, a forced one included.
func WithLockDelay(d time.Duration) Option {
	return func(r *waitqueue.Request) { r.Delay = d }
}

// WithMaxHold ends an ownership after d: its context ends with [ErrLost] and
// core.ErrRevoked, and the name passes on.
func WithMaxHold(d time.Duration) Option {
	return func(r *waitqueue.Request) { r.MaxHold = d }
}

// WithGrace asks that a forced release waits for d, at most 10 s, between the
// end of the owner's context and the handover. The default is 0.
func WithGrace(d time.Duration) Option {
	return func(r *waitqueue.Request) { r.Grace = d }
}

// WithOnePerSession makes the session, and not the acquisition, the owner: it
// holds a name at most once. Who asks for what the session holds already gets it
// again, with the same token; who asks while the session waits waits in the same
// place. That is so in whatever process the session was served before: a host
// that runs the lock for remote callers can be killed at any time, and the next
// one goes on. Other modes or numbers than those that the session holds or waits
// for are [ErrHeldOtherwise].
//
// A wait that is ended by the end of the session here, as by [core.Lender.Close],
// leaves its place in line for the next process. A place that was left by one
// that died is taken up by the next acquisition; a try takes it up only if it
// can have the lock at once, and else gives it up.
//
// It applies to one name, and not together with WithLockDelay, WithMaxHold,
// WithDeferredRelease and WithLocalHandover, which are core.ErrInvalid with it.
func WithOnePerSession() Option {
	return func(r *waitqueue.Request) { r.OnePerLease = true }
}

// WithDeferredRelease makes Unlock return when the release is queued, not when
// etcd has confirmed it. A crash then equals a crash just before Unlock: the
// session's TTL frees the name. Closing the session sends what is queued.
func WithDeferredRelease() Option {
	return func(r *waitqueue.Request) { r.Deferred = true }
}

// WithLocalHandover passes the lock among the goroutines of one session without
// a write, at most n owners in a row (up to 65,535) and for at most d, before
// others get their turn. Each owner still has a token larger than the one
// before; IsOwner then names the session's ownership, not the goroutine's. It
// applies to [Mutex] and to the write mode of [RWMutex].
func WithLocalHandover(n int, d time.Duration) Option {
	return func(r *waitqueue.Request) { r.LocalN, r.LocalFor = n, d }
}
