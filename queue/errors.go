package queue

import (
	"errors"
	"fmt"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/workqueue"
)

// Errors of this package. They come wrapped with the queue's name.
var (
	// ErrEmpty: nothing can be delivered now.
	ErrEmpty = workqueue.ErrEmpty
	// ErrFull: the queue had as many items as [WithCapacity] allows. Nothing was
	// written.
	ErrFull = workqueue.ErrFull
	// ErrStaleDelivery: the delivery is over: it was settled, its time was over, or
	// its session ended; the item may have been delivered again. Nothing was
	// written. As the cause of a context it comes with one of core's.
	ErrStaleDelivery = workqueue.ErrStale
	// ErrPayload: an item's payload is not what the codec reads.
	ErrPayload = errors.New("payload cannot be decoded")
)

// named wraps an error with the queue's name.
func named(name string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, commit.ErrClosed) && !errors.Is(err, core.ErrSessionClosed) {
		err = fmt.Errorf("%w: %w", core.ErrSessionClosed, err)
	}
	return fmt.Errorf("queue %q: %w", name, err)
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", core.ErrInvalid, fmt.Errorf(format, args...))
}
