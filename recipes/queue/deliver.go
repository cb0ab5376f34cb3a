package queue

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/queue"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// tryFor bounds a look for items.
const tryFor = time.Second

// A consumeRequest says how items are delivered.
type consumeRequest interface {
	nameRequest
	GetVisibility() *durationpb.Duration
	GetMaxAttempts() int32
}

// consumerOf returns the queue as the caller's session consumes it.
func (i *instance) consumerOf(ctx context.Context, req consumeRequest) (*queue.Queue[payload], *consumer, error) {
	opts, err := attemptsOf(req.GetMaxAttempts())
	if err != nil {
		return nil, nil, err
	}
	visibility, given, err := positive("visibility", req.GetVisibility())
	if err != nil {
		return nil, nil, err
	}
	if given {
		opts = append(opts, queue.WithVisibility(visibility))
	}
	s, err := i.consumer(ctx, req)
	if err != nil {
		return nil, nil, err
	}
	return open(s, req.GetName(), opts...), &consumer{namespace: s.Namespace(), name: req.GetName(), lease: s.Lease()}, nil
}

func attemptsOf(n int32) ([]queue.Option, error) {
	switch {
	case n == 0:
		return nil, nil
	case n < 0:
		return nil, service.Invalidf("max_attempts", "%d is negative", n)
	}
	return []queue.Option{queue.WithMaxAttempts(int(n))}, nil
}

// Dequeue implements the method of the QueueService.
func (i *instance) Dequeue(ctx context.Context, req *queuev1.DequeueRequest) (*queuev1.DequeueResponse, error) {
	most := int(req.GetMaxItems())
	if most == 0 {
		most = 1
	}
	if most < 0 || most > maxItems {
		return nil, service.Invalidf("max_items", "%d is outside 0 to %d", most, maxItems)
	}
	wait, err := service.Duration("wait", req.GetWait(), service.Forever)
	if err != nil {
		return nil, err
	}
	q, _, err := i.consumerOf(ctx, req)
	if err != nil {
		return nil, err
	}
	if wait == 0 {
		wait = tryFor
	}
	waiting, release := i.Waiting(ctx, wait)
	defer release()
	var items []*queue.Item[payload]
	if req.GetWait() != nil && req.GetWait().AsDuration() == 0 {
		items, err = try(waiting, q, most)
	} else {
		items, err = q.DequeueBatch(waiting, most)
	}
	if errors.Is(err, service.ErrWaited) && len(items) == 0 {
		err = recipe.Errorf(codes.Aborted, reasonEmpty, "queue %q: no item within %v", req.GetName(), wait)
	}
	if len(items) == 0 {
		return nil, status(err)
	}
	if ctx.Err() != nil && !i.Stopping() {
		giveBack(items) // the caller went away, and was told that it has nothing
		return nil, status(ctx.Err())
	}
	resp := new(queuev1.DequeueResponse)
	for _, item := range items {
		resp.Items = append(resp.Items, itemOf(item))
	}
	return resp, nil
}

// try takes what there is, and waits for nothing.
func try(ctx context.Context, q *queue.Queue[payload], most int) ([]*queue.Item[payload], error) {
	var items []*queue.Item[payload]
	for len(items) < most {
		item, err := q.TryDequeue(ctx)
		if err != nil {
			return items, err
		}
		items = append(items, item)
	}
	return items, nil
}

// giveBack returns deliveries of which nobody was told. What etcd does not take
// back now comes back when its visibility is over.
func giveBack(items []*queue.Item[payload]) {
	ctx, cancel := context.WithTimeout(context.Background(), writeBudget)
	defer cancel()
	for _, item := range items {
		_ = item.Nack(ctx, 0)
	}
}

func itemOf(item *queue.Item[payload]) *queuev1.Item {
	value, data := text(item.Value)
	return &queuev1.Item{Id: string(item.ID), Token: int64(item.Token()), Value: value, Data: data, Attempt: int32(item.Attempt),
		EnqueuedAt: service.Time(item.EnqueuedAt), Priority: int32(item.Priority), Group: item.Group, Reason: item.Reason}
}
