package core

import (
	"errors"

	"github.com/conclavehq/conclave/internal/commit"
)

// Causes of an ended session or ownership, found with errors.Is on
// context.Cause. A recipe wraps them with its own name and its ErrLost.
var (
	// ErrSessionExpired: renewals were not acknowledged in time, or etcd
	// ended the lease. What was held may belong to somebody else by now.
	ErrSessionExpired = errors.New("session expired")
	// ErrSessionClosed: the session was ended here, by Close or Orphan.
	ErrSessionClosed = errors.New("session closed")
	// ErrKeyDeleted: somebody deleted the key of the ownership in etcd.
	ErrKeyDeleted = errors.New("key deleted")
	// ErrReleased: the owner let go.
	ErrReleased = errors.New("released")
	// ErrRevoked: an operator took the ownership away, or its longest
	// allowed time was over.
	ErrRevoked = errors.New("revoked")
)

// Outcomes of calls.
var (
	// ErrUnknownOutcome: a write was sent and nobody knows whether etcd
	// applied it, or will. Read before you repeat it.
	ErrUnknownOutcome = commit.ErrUnknown
	// ErrInvalid: an argument is outside its limits. The message names the
	// field and the limit; nothing was written.
	ErrInvalid = errors.New("invalid argument")
)
