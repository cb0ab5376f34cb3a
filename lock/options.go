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
