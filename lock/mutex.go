package lock

import (
	"context"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// A Mutex is a name that at most one owner holds. It is immutable and safe for
// concurrent use: what an acquisition returns has the state.
type Mutex struct{ locker }

// NewMutex returns the mutex of a name. It does no I/O; a name or option outside
// its limits makes every call return core.ErrInvalid.
func NewMutex(s *core.Session, name string, opts ...Option) *Mutex {
	return &Mutex{newLocker(s, []string{name}, waitqueue.Exclusive, opts)}
}

// Lock waits until the lock is held, in turn with all others. It returns an
// error that is ctx.Err() when ctx ends first: the place in line is then given
// up, at once or within a second if etcd is slow. Other errors are
// core.ErrSessionExpired and core.ErrSessionClosed, core.ErrKeyDeleted if an
// operator removed the place in line, core.ErrInvalid, [ErrLimitMismatch], or
// etcd's refusal. The ctx bounds only the waiting.
func (m *Mutex) Lock(ctx context.Context) (*Held, error) { return m.acquire(ctx) }

// TryLock holds the lock at once or returns [ErrLocked], with the owner in the
// message; it then wrote nothing. It fails also if the lock is free but others
// wait for it. If no reply came from etcd the error is core.ErrUnknownOutcome,
// and whatever was acquired is released in the background.
func (m *Mutex) TryLock(ctx context.Context) (*Held, error) { return m.try(ctx) }

// Do locks, runs work, and unlocks. The context of work ends with the lock or
// with ctx. If the lock was lost while work ran, the error is [ErrLost] too.
func (m *Mutex) Do(ctx context.Context, work func(ctx context.Context) error) error {
	return do(ctx, m.Lock, work)
}

// Contenders returns who holds the lock and who waits for it, in order: the
// holder first. It is one linearizable read. Goroutines that wait behind another
// one of their session are one contender to other sessions.
func (m *Mutex) Contenders(ctx context.Context) ([]Contender, error) { return m.contenders(ctx) }

// ForceRelease takes the lock from whoever holds it: the holder's context ends
// with core.ErrRevoked and the reason, its grace runs (see [WithGrace]), and the
// lock passes to the first in line. It returns the token that was revoked, or 0
// if nobody held the lock.
func (m *Mutex) ForceRelease(ctx context.Context, reason string) (core.Token, error) {
	return m.force(ctx, reason)
}

// locker is what all locks have in common.
type locker struct {
	s *core.Session
	q *waitqueue.Queue
	r waitqueue.Request
}

func newLocker(s *core.Session, names []string, mode waitqueue.Mode, opts []Option) locker {
	l := locker{s: s, q: waitqueue.For(s, recipe), r: waitqueue.Request{Names: names, Mode: mode, Lost: lost(names)}}
	for _, opt := range opts {
		opt(&l.r)
	}
	return l
}

func (l *locker) acquire(ctx context.Context) (*Held, error) {
	return held(&l.r)(l.q.Acquire(ctx, &l.r))
}

func (l *locker) try(ctx context.Context) (*Held, error) {
	return held(&l.r)(l.q.TryAcquire(ctx, &l.r))
}

func held(r *waitqueue.Request) func(*waitqueue.Owned, error) (*Held, error) {
	return func(o *waitqueue.Owned, err error) (*Held, error) {
		if err != nil {
			return nil, named(r.Names, err)
		}
		return &Held{o}, nil
	}
}

func (l *locker) contenders(ctx context.Context) ([]Contender, error) {
	cs, err := l.q.Contenders(ctx, l.r.Names)
	if err != nil {
		return nil, named(l.r.Names, err)
	}
	return contendersOf(cs), nil
}

func (l *locker) force(ctx context.Context, reason string) (core.Token, error) {
	token, err := l.q.Force(ctx, l.r.Names[0], reason)
	if err != nil {
		return 0, named(l.r.Names, err)
	}
	return core.Token(token), nil
}
