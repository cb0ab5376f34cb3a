package queue

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/workqueue"
	"github.com/conclavehq/conclave/queue"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// A settleRequest names a delivery.
type settleRequest interface {
	nameRequest
	GetId() string
	GetToken() int64
}

// settle does something with a delivery of the caller's session.
func (i *instance) settle(ctx context.Context, req settleRequest, opts []queue.Option,
	do func(ctx context.Context, s *core.Session, item *queue.Item[payload]) error) error {
	s, err := i.consumer(ctx, req)
	if err != nil {
		return err
	}
	if req.GetToken() <= 0 {
		return service.Invalidf("token", "%d is none; it is what came with the item", req.GetToken())
	}
	return done(ctx, func(ctx context.Context) error {
		item, err := open(s, req.GetName(), opts...).Delivered(ctx, queue.ID(req.GetId()), core.Token(req.GetToken()))
		if err != nil {
			return err
		}
		return do(ctx, s, item)
	})
}

// Ack implements the method of the QueueService.
func (i *instance) Ack(ctx context.Context, req *queuev1.AckRequest) (*queuev1.AckResponse, error) {
	const most = 100
	if n := len(req.GetEnqueue()); n > most {
		return nil, service.Invalidf("enqueue", "%d are more than %d", n, most)
	}
	err := i.settle(ctx, req, nil, func(ctx context.Context, s *core.Session, item *queue.Item[payload]) error {
		effects, err := effectsOf(s, req.GetEnqueue())
		if err != nil {
			return err
		}
		return item.Ack(ctx, effects...)
	})
	if recipe.Reason(err) == reasonStale && i.acked(ctx, req) {
		err = nil // its answer was lost, and it is sent again
	}
	if err != nil {
		return nil, err
	}
	return &queuev1.AckResponse{}, nil
}

// acked reports whether a delivery that is over was acked, as far as that can be known.
func (i *instance) acked(ctx context.Context, req settleRequest) bool {
	s, err := i.consumer(ctx, req)
	if err != nil {
		return false
	}
	end, err := workqueue.EndOf(ctx, i.Env.Client, workqueue.Root(s.Namespace(), req.GetName()), s.Lease(), req.GetId(), req.GetToken())
	return err == nil && end == workqueue.ByAck
}

// effectsOf are the operations that enqueue what follows an item.
func effectsOf(s *core.Session, follows []*queuev1.Follow) ([]clientv3.Op, error) {
	var effects []clientv3.Op
	for n, f := range follows {
		if err := keyspace.CheckName("enqueue: name", f.GetName()); err != nil {
			return nil, service.Invalidf("enqueue", "item %d: %s", n, err)
		}
		if f.GetItem() == nil || f.GetItem().GetDedupId() != "" {
			return nil, service.Invalidf("enqueue", "item %d: needs an item without a dedup_id: an ack happens once", n)
		}
		value, err := payloadOf(f.GetItem())
		if err != nil {
			return nil, err
		}
		opts, err := putOptions(f.GetItem())
		if err != nil {
			return nil, err
		}
		op, err := queue.EnqueueOp(open(s, f.GetName()), value, opts...)
		if err != nil {
			return nil, err
		}
		effects = append(effects, op)
	}
	return effects, nil
}

// Nack implements the method of the QueueService.
func (i *instance) Nack(ctx context.Context, req *queuev1.NackRequest) (*queuev1.NackResponse, error) {
	after, err := service.Duration("after", req.GetAfter(), 0)
	if err != nil {
		return nil, err
	}
	if req.GetReject() && after > 0 {
		return nil, service.Invalidf("after", "is given together with reject")
	}
	opts, err := attemptsOf(req.GetMaxAttempts())
	if err != nil {
		return nil, err
	}
	err = i.settle(ctx, req, opts, func(ctx context.Context, _ *core.Session, item *queue.Item[payload]) error {
		if req.GetReject() {
			return item.Reject(ctx, req.GetReason())
		}
		return item.NackReason(ctx, after, req.GetReason())
	})
	if err != nil {
		return nil, err
	}
	return &queuev1.NackResponse{}, nil
}

// Extend implements the method of the QueueService.
func (i *instance) Extend(ctx context.Context, req *queuev1.ExtendRequest) (*queuev1.ExtendResponse, error) {
	visibility, given, err := positive("visibility", req.GetVisibility())
	if err != nil {
		return nil, err
	}
	if !given {
		return nil, service.Invalidf("visibility", "is missing; say how long the delivery shall last")
	}
	if visibility < queue.MinVisibility || visibility > queue.MaxVisibility {
		return nil, service.Invalidf("visibility", "%v is outside %v to %v", visibility, queue.MinVisibility, queue.MaxVisibility)
	}
	err = i.settle(ctx, req, nil, func(ctx context.Context, _ *core.Session, item *queue.Item[payload]) error {
		return item.Extend(ctx, visibility)
	})
	if err != nil {
		return nil, err
	}
	return &queuev1.ExtendResponse{}, nil
}
