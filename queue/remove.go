package queue

import (
	"context"

	"github.com/conclavehq/conclave/internal/workqueue"
)

// Why a queue is not removed. They come wrapped with the queue's name.
var (
	// ErrInUse: the queue has items, dead letters or consumers, of which the error says
	// how many, or it remembers more than 1,000 [DedupID]s. Nothing was changed.
	ErrInUse = workqueue.ErrInUse
	// ErrNoQueue: there is no queue of that name, and nothing in it.
	ErrNoQueue = workqueue.ErrNotThere
)

// Removed says what a removal has deleted.
type Removed struct {
	Items int // neither acked nor given up, delivered ones included
	Dead  int // dead letters
}

// Remove removes a queue that is empty and that nobody consumes, or changes nothing: it
// is not listed any more, and its pause, its bound and its DedupIDs are forgotten. Who
// enqueues from then on makes it anew; an item that was enqueued at the same time
// either keeps the queue, or is in the new one.
//
// It returns [ErrInUse], [ErrNoQueue], or core.ErrUnknownOutcome if nobody knows whether
// it was removed: then remove it again. The queue of the dead letters goes with its own,
// and cannot be removed by itself: core.ErrInvalid.
func (q *Queue[T]) Remove(ctx context.Context) error {
	if err := q.removable(); err != nil {
		return named(q.name, err)
	}
	return named(q.name, q.admin().Remove(ctx))
}

// Destroy deletes everything that is in the queue, and then does what Remove does. It
// takes as many transactions as that needs, and returns what they have deleted, also with
// an error: after one the queue is smaller, and whole. Whoever works on an item finds out
// at its ack, which is [ErrStaleDelivery] and writes nothing, or core.ErrUnknownOutcome if
// it was sent before. Consumers go on, with nothing to do.
//
// It returns [ErrNoQueue], [ErrInUse] with ctx's cause when producers were quicker until
// ctx ended, or core.ErrUnknownOutcome.
func (q *Queue[T]) Destroy(ctx context.Context) (Removed, error) {
	if err := q.removable(); err != nil {
		return Removed{}, named(q.name, err)
	}
	d, err := q.admin().Destroy(ctx)
	return Removed{Items: d.Items, Dead: d.Dead}, named(q.name, err)
}

func (q *Queue[T]) removable() error {
	if q.err == nil && q.dead {
		return invalid("queue: dead letters are removed with their queue")
	}
	return q.err
}
