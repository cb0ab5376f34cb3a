package lock

import (
	"errors"
	"fmt"
	"strings"

	"github.com/conclavehq/conclave/internal/waitqueue"
)

// Errors of this package. They come wrapped with the lock's name.
var (
	// ErrLocked: a try found the lock held, or waited for by others. Nothing
	// was written.
	ErrLocked = errors.New("locked")
	// ErrLost: the ownership ended before it was released. The error also is
	// one of core's causes: ErrSessionExpired, ErrSessionClosed,
	// ErrKeyDeleted or ErrRevoked.
	ErrLost = errors.New("lock lost")
	// ErrLimitMismatch: the name is in use with another limit. A mutex counts
	// as a limit of one.
	ErrLimitMismatch = waitqueue.ErrLimitMismatch
	// ErrUpgrade: a reader asked for the write lock. Two readers that upgrade
	// would wait for each other for ever: release first.
	ErrUpgrade = errors.New("a read lock cannot be upgraded")
	// ErrHeldOtherwise: with [WithOnePerSession], the session holds the name in
	// another mode or number, or waits for it otherwise.
	ErrHeldOtherwise = waitqueue.ErrOtherwise
	// ErrStaleToken: the session holds the name, but by another token than the
	// one to be resumed. It comes with ErrLost.
	ErrStaleToken = waitqueue.ErrStale
	// ErrDetached is the cause of the end of a [Held] after Detach.
	ErrDetached = waitqueue.ErrDetached
)

// named wraps an error with the lock's name.
func named(names []string, err error) error {
	if err == nil || errors.Is(err, ErrLost) { // which is named already
		return err
	}
	if _, ok := errors.AsType[*waitqueue.HeldError](err); ok {
		err = fmt.Errorf("%w: %w", ErrLocked, err)
	}
	return fmt.Errorf("lock %q: %w", strings.Join(names, ", "), err)
}

// lost makes the error of a lost ownership of its cause.
func lost(names []string) func(error) error {
	return func(cause error) error {
		return fmt.Errorf("lock %q: %w: %w", strings.Join(names, ", "), ErrLost, cause)
	}
}
