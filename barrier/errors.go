package barrier

import (
	"errors"
	"fmt"

	"github.com/conclavehq/conclave/barrier/internal/rendezvous"
)

// Errors of this package. They come wrapped with the barrier's name.
var (
	// ErrLost: a hold or an entry ended before it was let go. The error also is one
	// of core's causes: ErrSessionExpired, ErrSessionClosed, or ErrKeyDeleted. It is
	// also the error of a verb on one that is over.
	ErrLost = errors.New("lost")
	// ErrFull: as many as the barrier has parties are there, and have not all left.
	// Nothing of the caller is left in etcd.
	ErrFull = rendezvous.ErrFull
	// ErrBroken: somebody was lost whose loss breaks the barrier. [LostMember] tells
	// who. Nobody of that generation entered; the next one works.
	ErrBroken = errors.New("barrier broken")
	// ErrPartiesMismatch: the barrier is in use with another number of parties, or
	// the latch with another count. The message names both.
	ErrPartiesMismatch = rendezvous.ErrMismatch
	// ErrCounting: a latch cannot be reset before it is at zero.
	ErrCounting = rendezvous.ErrCounting
	// ErrDetached is the cause of the end of a hold or an entry that goes on in etcd,
	// after Detach.
	ErrDetached = rendezvous.ErrDetached
)

// LostMember returns the owner who was lost, of an error that is [ErrBroken].
func LostMember(err error) (owner string, ok bool) {
	if b, is := errors.AsType[*rendezvous.BrokenError](err); is {
		return b.Owner, true
	}
	return "", false
}

// named wraps an error with the name.
func named(kind, name string, err error) error {
	switch {
	case err == nil, errors.Is(err, ErrLost): // which is named already
		return err
	}
	if _, broken := LostMember(err); broken {
		return fmt.Errorf("%s %q: %w: %w", kind, name, ErrBroken, err)
	}
	return fmt.Errorf("%s %q: %w", kind, name, err)
}

// ending makes the error of an ended ownership of its cause.
func ending(kind, name string) func(error) error {
	return func(cause error) error {
		return fmt.Errorf("%s %q: %w: %w", kind, name, ErrLost, cause)
	}
}
