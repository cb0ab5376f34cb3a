package lock_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// A call runs in the background.
type call[T any] struct {
	done  chan struct{}
	value T
	err   error
	taken bool // used by anyOfThem
}

func inBackground[T any](f func() (T, error)) *call[T] {
	c := &call[T]{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.value, c.err = f()
	}()
	return c
}

// result waits for what the call returned.
func (c *call[T]) result(tb testing.TB) (T, error) {
	tb.Helper()
	select {
	case <-c.done:
	case <-time.After(2 * patience):
		tb.Fatal("a call in the background does not return")
	}
	return c.value, c.err
}

// get waits for the call, which must have succeeded.
func (c *call[T]) get(tb testing.TB) T {
	tb.Helper()
	return must[T](tb)(c.result(tb))
}

// A heldLocker is any lock that gives a Held.
type heldLocker interface {
	Lock(context.Context) (*lock.Held, error)
	TryLock(context.Context) (*lock.Held, error)
}

// readSide is the read lock of an RWMutex as a heldLocker.
type readSide struct{ *lock.RWMutex }

func (r readSide) Lock(ctx context.Context) (*lock.Held, error)    { return r.RLock(ctx) }
func (r readSide) TryLock(ctx context.Context) (*lock.Held, error) { return r.TryRLock(ctx) }

// locking calls Lock in the background.
func locking(tb testing.TB, m heldLocker) *call[*lock.Held] {
	tb.Helper()
	ctx := within(tb)
	return inBackground(func() (*lock.Held, error) { return m.Lock(ctx) })
}

// ended waits for the end of an ownership, and returns its cause.
func ended(tb testing.TB, o core.Ownership) error {
	tb.Helper()
	select {
	case <-o.Context().Done():
	case <-time.After(patience):
		tb.Fatal("the ownership does not end")
	}
	return context.Cause(o.Context())
}

// isAll fails the test unless err is every one of wanted.
func isAll(tb testing.TB, err error, wanted ...error) {
	tb.Helper()
	for _, w := range wanted {
		if !errors.Is(err, w) {
			tb.Errorf("error %v, want one that is %v", err, w)
		}
	}
}

// growing fails the test unless every token is larger than the one before.
func growing(tb testing.TB, owners ...core.Ownership) {
	tb.Helper()
	for i := 1; i < len(owners); i++ {
		if owners[i].Token() <= owners[i-1].Token() {
			tb.Errorf("token %d follows %d", owners[i].Token(), owners[i-1].Token())
		}
	}
}

// nothingLeft fails the test if a key stands under one of the names, but for
// the void records of requests whose outcome nobody waited for: they stay until
// their session ends.
func nothingLeft(tb testing.TB, names ...string) {
	tb.Helper()
	for _, n := range names {
		left := slices.DeleteFunc(keysOf(tb, n), func(key string) bool { return strings.Contains(key, "/void/") })
		if len(left) > 0 {
			tb.Errorf("left over: %q", left)
		}
	}
}

// standing lists the keys of a name but for void records and for the notices of
// forced releases, which stay until their owner's session ends.
func standing(tb testing.TB, name string) []string {
	tb.Helper()
	return slices.DeleteFunc(keysOf(tb, name), func(key string) bool { return isNotice(key) || strings.Contains(key, "/void/") })
}

func isNotice(key string) bool { return strings.Contains(key, "/notice/") }
