package discovery

import (
	"errors"
	"fmt"
)

// Errors of this package. They come wrapped with the service and the instance.
var (
	// ErrLost: the registration is over; a verb was called on it after its end.
	// It comes with the cause of the end, such as ErrSuperseded or
	// core.ErrReleased.
	ErrLost = errors.New("registration ended")
	// ErrSuperseded: the same instance was registered again, elsewhere or here,
	// and the later registration counts.
	ErrSuperseded = errors.New("superseded by a later registration")
	// ErrNoInstance: there is no instance to pick, or none of that id.
	ErrNoInstance = errors.New("no instance")
	// ErrStaleToken: the registration to be changed is not the one that stands.
	ErrStaleToken = errors.New("stale token")
	// ErrClosed: the resolver or the registrar was closed.
	ErrClosed = errors.New("closed")
)

// Why a snapshot is stale, besides what etcd or the network says.
var (
	// ErrMassLoss: most instances vanished at once, and are kept for now.
	ErrMassLoss = errors.New("too many instances vanished at once")
	// ErrFromDisk: etcd has not answered since the start; what is known comes
	// from the copy on disk.
	ErrFromDisk = errors.New("read from disk")
)

func named(service, id string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("service %q: instance %q: %w", service, id, err)
}
