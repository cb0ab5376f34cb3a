package queue

import (
	"context"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/queue"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

const defaultPeek = 10

// Peek implements the method of the QueueService.
func (i *instance) Peek(ctx context.Context, req *queuev1.PeekRequest) (*queuev1.PeekResponse, error) {
	most := int(req.GetMaxItems())
	if most == 0 {
		most = defaultPeek
	}
	if most < 0 || most > maxItems {
		return nil, service.Invalidf("max_items", "%d is outside 0 to %d", most, maxItems)
	}
	q, _, err := i.lent(ctx, req)
	if err != nil {
		return nil, err
	}
	if req.GetDead() {
		q = q.DeadLetters()
	}
	entries, err := service.Bounded(ctx, func(ctx context.Context) ([]queue.Entry[payload], error) { return q.Peek(ctx, most) })
	if err != nil {
		return nil, status(err)
	}
	resp := new(queuev1.PeekResponse)
	for _, e := range entries {
		value, data := text(e.Payload)
		resp.Items = append(resp.Items, &queuev1.Entry{Id: string(e.ID), Value: value, Data: data, Attempts: int32(e.Attempts),
			EnqueuedAt: service.Time(e.EnqueuedAt), Priority: int32(e.Priority), Group: e.Group, Reason: e.Reason})
	}
	return resp, nil
}

// Stats implements the method of the QueueService.
func (i *instance) Stats(ctx context.Context, req *queuev1.StatsRequest) (*queuev1.StatsResponse, error) {
	q, _, err := i.lent(ctx, req)
	if err != nil {
		return nil, err
	}
	s, err := service.Bounded(ctx, q.Stats)
	if err != nil {
		return nil, status(err)
	}
	return &queuev1.StatsResponse{Depth: int64(s.Depth()), Ready: int64(s.Ready), Delayed: int64(s.Delayed), InFlight: int64(s.InFlight),
		Blocked: int64(s.Blocked), Arriving: int64(s.Arriving), Dead: int64(s.Dead), Paused: s.Paused, Oldest: service.Time(s.Oldest),
		Consumers: int32(s.Consumers)}, nil
}

// List implements the method of the QueueService.
func (i *instance) List(ctx context.Context, req *queuev1.ListRequest) (*queuev1.ListResponse, error) {
	space, err := i.Space(ctx, req.GetNamespace())
	if err != nil {
		return nil, err
	}
	if err := service.Invalid(keyspace.CheckText("prefix", req.GetPrefix(), keyspace.MaxName)); err != nil {
		return nil, err
	}
	names, err := service.Bounded(ctx, func(ctx context.Context) ([]string, error) {
		return queue.List(ctx, i.Env.Client, space.Namespace(), req.GetPrefix())
	})
	if err != nil {
		return nil, status(err)
	}
	return &queuev1.ListResponse{Names: names}, nil
}
