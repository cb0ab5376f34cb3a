package embedded

import (
	"errors"
	"fmt"
)

// FatalExitCode is the exit code of a process whose member met an error that it must not survive.
const FatalExitCode = 1

var (
	// ErrDataDirInUse means that another process, or another member of this one, runs on the data directory.
	// The error that wraps it names the directory and, when it is known, the holder's pid.
	ErrDataDirInUse = errors.New("data directory in use")

	// ErrPortInUse means that a listen address is taken. The error that wraps it names the address.
	ErrPortInUse = errors.New("address in use")

	// ErrNoQuorum means that the member did not reach a majority of its cluster before the context ended.
	ErrNoQuorum = errors.New("no quorum")

	// ErrCorrupt means that the data directory holds a database or log that etcd cannot read. Nothing in it was deleted
	// or repaired. Restore it from a snapshot, or remove the member and add it again with an empty directory.
	ErrCorrupt = errors.New("data directory is corrupt")

	// ErrStopped means that the member stopped although nobody asked it to: most often it was removed from its cluster.
	ErrStopped = errors.New("member stopped by itself")

	// ErrRemoved means that the member was removed from its cluster. Its data are of no use any more: it can come back with an empty
	// directory, as a new member. The error that wraps it wraps ErrStopped as well.
	ErrRemoved = errors.New("removed from its cluster")

	// ErrConfig means that a field of Config has a value that cannot work. The error that wraps it names the field.
	ErrConfig = errors.New("invalid configuration")
)

func configError(field, format string, args ...any) error {
	return fmt.Errorf("%w: %s: %s", ErrConfig, field, fmt.Sprintf(format, args...))
}
