package queue

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/internal/watch"
	"github.com/conclavehq/conclave/internal/workqueue"
	"github.com/conclavehq/conclave/queue"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// A consumer is a session that consumes a queue.
type consumer struct {
	namespace, name string
	lease           clientv3.LeaseID
}

// Consume implements the method of the QueueService.
//
// A delivery is open until its key goes, whoever settles it, at whatever host: so
// the stream follows the keys of its session's deliveries.
func (i *instance) Consume(req *queuev1.ConsumeRequest, stream grpc.ServerStreamingServer[queuev1.ConsumeResponse]) error {
	credits := int(req.GetCredits())
	if credits == 0 {
		credits = 1
	}
	if credits < 0 || credits > maxItems {
		return service.Invalidf("credits", "%d is outside 0 to %d", credits, maxItems)
	}
	q, c, err := i.consumerOf(stream.Context(), req)
	if err != nil {
		return err
	}
	calling, release := i.Waiting(stream.Context(), service.Forever)
	defer release()
	ctx, cancel := context.WithCancelCause(calling)
	l := newLedger(credits)
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		cancel(i.follow(ctx, c, l))
	}()
	err = l.deliver(ctx, q, func(item *queue.Item[payload]) error {
		return stream.Send(&queuev1.ConsumeResponse{Item: itemOf(item)})
	})
	cancel(nil)
	<-followed
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	return status(err)
}

// follow tells the ledger which deliveries of the session stand, until ctx ends.
func (i *instance) follow(ctx context.Context, c *consumer, l *ledger) error {
	prefix := workqueue.Deliveries(workqueue.Root(c.namespace, c.name), c.lease)
	for b, err := range watch.Observe(ctx, i.Env.Client, prefix, watch.ObserveOptions{Streams: i.streams, Logger: i.Env.Log}) {
		if err != nil {
			return err
		}
		l.learn(prefix, b)
	}
	return context.Cause(ctx)
}

// deliver takes items and sends them, as far as there is credit, until ctx ends.
func (l *ledger) deliver(ctx context.Context, q *queue.Queue[payload], send func(*queue.Item[payload]) error) error {
	for {
		room, err := l.room(ctx)
		if err != nil {
			return err
		}
		items, err := q.DequeueBatch(ctx, room)
		for n, item := range items {
			l.open(item.ID, item.Token())
			if err := send(item); err != nil {
				giveBack(items[n:])
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}
