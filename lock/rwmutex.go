package lock

import (
	"context"
	"slices"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// An RWMutex is a name that one writer or any number of readers hold. No reader
// overtakes a waiting writer. On one name it excludes, and is excluded by, a
// [Mutex] and a [Multi] like a writer.
type RWMutex struct {
	write locker
	read  locker
}

// NewRWMutex returns the read-write lock of a name. It does no I/O; a name or
// option outside its limits makes every call return core.ErrInvalid.
func NewRWMutex(s *core.Session, name string, opts ...Option) *RWMutex {
	read := newLocker(s, []string{name}, waitqueue.Shared, opts)
	read.r.Delay = 0 // a reader changes nothing that would need the delay
	return &RWMutex{write: newLocker(s, []string{name}, waitqueue.Exclusive, opts), read: read}
}

// Lock waits for the write lock, like [Mutex.Lock]. Called with a context of
// this session's read lock of the name, it returns [ErrUpgrade].
func (m *RWMutex) Lock(ctx context.Context) (*Held, error) {
	if err := m.upgrades(ctx); err != nil {
		return nil, err
	}
	return m.write.acquire(ctx)
}

// TryLock takes the write lock at once or returns [ErrLocked], like
// [Mutex.TryLock]; or [ErrUpgrade], like Lock.
func (m *RWMutex) TryLock(ctx context.Context) (*Held, error) {
	if err := m.upgrades(ctx); err != nil {
		return nil, err
	}
	return m.write.try(ctx)
}

// RLock waits for a read lock, like [Mutex.Lock].
func (m *RWMutex) RLock(ctx context.Context) (*Held, error) { return m.read.acquire(ctx) }

// TryRLock takes a read lock at once or returns [ErrLocked]: a writer holds the
// lock, or somebody waits for it.
func (m *RWMutex) TryRLock(ctx context.Context) (*Held, error) { return m.read.try(ctx) }

// Do takes the write lock, runs work, and unlocks, like [Mutex.Do].
func (m *RWMutex) Do(ctx context.Context, work func(ctx context.Context) error) error {
	return do(ctx, m.Lock, work)
}

// RDo takes a read lock, runs work, and unlocks.
func (m *RWMutex) RDo(ctx context.Context, work func(ctx context.Context) error) error {
	return do(ctx, m.RLock, work)
}

// Contenders returns who holds the lock and who waits for it: holders first.
func (m *RWMutex) Contenders(ctx context.Context) ([]Contender, error) {
	return m.write.contenders(ctx)
}

// ForceRelease takes the lock from whoever holds it, all readers included, like
// [Mutex.ForceRelease].
func (m *RWMutex) ForceRelease(ctx context.Context, reason string) (core.Token, error) {
	return m.write.force(ctx, reason)
}

func (m *RWMutex) upgrades(ctx context.Context) error {
	o := waitqueue.OwnedFrom(ctx)
	if o != nil && o.Mode() == waitqueue.Shared && o.Stands() && o.Session(m.read.s) &&
		slices.Equal(o.Names(), m.read.r.Names) {
		return named(m.read.r.Names, ErrUpgrade)
	}
	return nil
}
