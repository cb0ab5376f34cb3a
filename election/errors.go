package election

import (
	"errors"
	"fmt"
	"strings"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// Errors of this package. They come wrapped with the election's name.
var (
	// ErrLost: the term ended before it was resigned. The error also is one of
	// core's causes: ErrSessionExpired, ErrSessionClosed, ErrKeyDeleted or
	// ErrRevoked. It is also the error of a verb on a term that is over.
	ErrLost = errors.New("leadership lost")
	// ErrLed: a try found all seats taken, or others who stand for one.
	ErrLed = errors.New("led by others")
	// ErrOtherwise: with [WithOnePerSession], the session leads already with
	// another number of seats, or stands with another priority, zone or number.
	ErrOtherwise = waitqueue.ErrOtherwise
	// ErrNoLeader: nobody leads.
	ErrNoLeader = errors.New("no leader")
	// ErrUnhealthy: the candidate failed its own check (see [WithHealth]). It is
	// also a cause, with core.ErrReleased, of a term's end.
	ErrUnhealthy = errors.New("unhealthy")
	// ErrTransferred is the cause, with core.ErrReleased, of the end of a term
	// that was transferred to another contender.
	ErrTransferred = waitqueue.ErrTransferred
	// ErrNoContender: a transfer named nobody who stands for election. Nothing
	// was written.
	ErrNoContender = waitqueue.ErrNoContender
	// ErrNotTransferred: the contender left after the leader had been told to
	// step down, or the leader's session ended first; the order of the line
	// decided.
	ErrNotTransferred = waitqueue.ErrNotTransferred
	// ErrSeatsMismatch: the election is in use with another number of seats.
	ErrSeatsMismatch = waitqueue.ErrLimitMismatch
	// ErrStaleToken: the session leads, but in another term than the one to be
	// resumed. It comes with ErrLost.
	ErrStaleToken = waitqueue.ErrStale
)

// named wraps an error with the election's name.
func named(name string, err error) error {
	held, taken := errors.AsType[*waitqueue.HeldError](err)
	switch {
	case err == nil, errors.Is(err, ErrLost): // which is named already
		return err
	case taken:
		err = fmt.Errorf("%w: %w", ErrLed, held)
	case errors.Is(err, waitqueue.ErrVacant):
		err = fmt.Errorf("%w%s", ErrNoLeader, strings.TrimPrefix(err.Error(), waitqueue.ErrVacant.Error()))
	}
	return fmt.Errorf("election %q: %w", name, err)
}

// ending makes the error of an ended term of its cause.
func ending(name string) func(error) error {
	return func(cause error) error {
		if errors.Is(cause, ErrTransferred) && !errors.Is(cause, core.ErrReleased) {
			return released(name, cause)
		}
		return fmt.Errorf("election %q: %w: %w", name, ErrLost, cause)
	}
}

// released is the cause of a term whose leader steps down.
func released(name string, why error) error {
	return fmt.Errorf("election %q: %w: %w", name, core.ErrReleased, why)
}
