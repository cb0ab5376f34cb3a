package lock

import (
	"context"
	"slices"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// A Multi locks several names, all or none, in one transaction. Multis never
// deadlock with each other, in whatever order their names are given: a Multi
// that waits owns nothing, but keeps its place in the line of every name.
type Multi struct{ locker }

// NewMulti returns the lock of 1 to 30 names, each given once. It does no I/O;
// an argument outside its limits makes every call return core.ErrInvalid.
func NewMulti(s *core.Session, names []string, opts ...Option) *Multi {
	return &Multi{newLocker(s, slices.Clone(names), waitqueue.Set, opts)}
}

// Lock waits until all names are held, like [Mutex.Lock]. The result is one
// ownership with one token; the loss of one name ends it.
func (m *Multi) Lock(ctx context.Context) (*Held, error) { return m.acquire(ctx) }

// TryLock holds all names at once or returns [ErrLocked], like [Mutex.TryLock].
func (m *Multi) TryLock(ctx context.Context) (*Held, error) { return m.try(ctx) }

// Do locks, runs work, and unlocks, like [Mutex.Do].
func (m *Multi) Do(ctx context.Context, work func(ctx context.Context) error) error {
	return do(ctx, m.Lock, work)
}

// Contenders returns who holds one of the names and who waits for one: by name
// in the order given, holders first.
func (m *Multi) Contenders(ctx context.Context) ([]Contender, error) { return m.contenders(ctx) }
