package config

import (
	"errors"
	"fmt"

	"github.com/conclavehq/conclave/core"
)

// Errors of this package. They come wrapped with the key's name.
var (
	// ErrConflict: the key has another revision than the one that the caller
	// names. Nothing was written.
	ErrConflict = errors.New("conflict")
	// ErrNotFound: the key has no value, and never had; or its history does not
	// have the revision that was asked for.
	ErrNotFound = errors.New("not found")
	// ErrDeleted: the key was deleted by a tombstone.
	ErrDeleted = errors.New("deleted")
	// ErrMissing: the key had a value, and somebody deleted it by hand.
	ErrMissing = errors.New("missing: deleted by hand")
	// ErrDamaged: what stands in etcd is not a version, or does not match its
	// own sum: somebody wrote it by hand.
	ErrDamaged = errors.New("damaged")
	// ErrRejected: the value does not decode, or does not pass the program's own
	// check.
	ErrRejected = errors.New("rejected")
	// ErrSchemaChanged: the key has another schema than the one that its value
	// was checked against. Nothing was written.
	ErrSchemaChanged = errors.New("the schema has changed")
	// ErrNoRollout: the rollout is over, or was another one. Nothing was written.
	ErrNoRollout = errors.New("no such rollout is running")
	// ErrClosed: the Variable was closed.
	ErrClosed = errors.New("closed")
)

// A ConflictError says which revision a key has in place of the one that the
// caller named. It is [ErrConflict].
type ConflictError struct {
	Key      string // the key
	Want     int64  // that the caller named; 0: no value
	Revision int64  // that it has; 0: no value
}

// Error names the key and both revisions.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("config %q: conflict: its revision is %d, not %d", e.Key, e.Revision, e.Want)
}

// Is reports whether target is [ErrConflict].
func (*ConflictError) Is(target error) bool { return target == ErrConflict }

// named wraps an error with the key's name.
func named(key string, err error) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*ConflictError](err); ok {
		return e // which is named already
	}
	return fmt.Errorf("config %q: %w", key, err)
}

// invalid wraps what is wrong with an argument: the field, a colon, the limit.
func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", core.ErrInvalid, fmt.Errorf(format, args...))
}

// noRevisionError says that a key had no version in force at a revision, or that
// the history does not go back so far.
type noRevisionError int64

func (e noRevisionError) Error() string {
	return fmt.Sprintf("no version of it was in force at revision %d, or the history does not go back so far", int64(e))
}
