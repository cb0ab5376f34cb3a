package remote

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/queue"
)

// A Delivery is an item that a session took, until it is settled, its visibility is
// over, or the session ends. Its verbs ask one host after the other until one answers
// or ctx ends.
type Delivery struct {
	*queuev1.Item
	s     *Session
	queue string
}

// Dequeue takes items, waiting for the first of them as long as the request says, or
// until ctx or the session ends. The request's session and namespace are filled in. An
// answer that was lost leaves its items with the session until their visibility is
// over.
func (s *Session) Dequeue(ctx context.Context, req *queuev1.DequeueRequest) ([]*Delivery, error) {
	req = proto.CloneOf(req)
	req.SessionId, req.Namespace = s.id, s.cfg.Namespace
	asking, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.ctx.Inner(), func() { cancel(context.Cause(s.ctx.Inner())) })
	defer stop()
	var items []*queuev1.Item
	err := s.client.Wait(asking, req.GetWait(), func(cc grpc.ClientConnInterface, left *durationpb.Duration) error {
		again := proto.CloneOf(req)
		again.Wait = left
		resp, err := queuev1.NewQueueServiceClient(cc).Dequeue(asking, again)
		items = resp.GetItems()
		return err
	})
	if err != nil {
		if cause := s.ctx.Check(); cause != nil {
			err = cause
		}
		return nil, err
	}
	all := make([]*Delivery, len(items))
	for i, item := range items {
		all[i] = &Delivery{Item: item, s: s, queue: req.GetName()}
	}
	return all, nil
}

// Payload returns the value, be it text or not.
func (d *Delivery) Payload() []byte {
	if len(d.GetData()) > 0 {
		return d.GetData()
	}
	return []byte(d.GetValue())
}

// Context returns the session's: it ends with everything that the session was given.
func (d *Delivery) Context() context.Context { return d.s.Context() }

// Ack says that the item is done with. The error is queue.ErrStaleDelivery if the
// delivery was over, and core.ErrUnknownOutcome if it is over and an ack before, that
// no host answered, may be why.
func (d *Delivery) Ack(ctx context.Context) error {
	return d.settle(ctx, func(cc grpc.ClientConnInterface) error {
		_, err := queuev1.NewQueueServiceClient(cc).Ack(ctx, &queuev1.AckRequest{
			SessionId: d.s.id, Namespace: d.s.cfg.Namespace, Name: d.queue, Id: d.GetId(), Token: d.GetToken()})
		return err
	})
}

// Nack gives the item back: after a time, or, for zero, to the front at once. With
// attempts deliveries behind it it becomes a dead letter. The reason is kept with it.
// It returns errors as Ack.
func (d *Delivery) Nack(ctx context.Context, after time.Duration, reason string, attempts int32) error {
	req := &queuev1.NackRequest{SessionId: d.s.id, Namespace: d.s.cfg.Namespace, Name: d.queue, Id: d.GetId(), Token: d.GetToken(),
		Reason: reason, MaxAttempts: attempts}
	if after > 0 {
		req.After = durationpb.New(after)
	}
	return d.settle(ctx, func(cc grpc.ClientConnInterface) error {
		_, err := queuev1.NewQueueServiceClient(cc).Nack(ctx, req)
		return err
	})
}

// Extend makes the delivery last for a time from now on. The error is
// queue.ErrStaleDelivery if it was over.
func (d *Delivery) Extend(ctx context.Context, visibility time.Duration) error {
	err := d.s.client.Wait(ctx, nil, func(cc grpc.ClientConnInterface, _ *durationpb.Duration) error {
		_, err := queuev1.NewQueueServiceClient(cc).Extend(ctx, &queuev1.ExtendRequest{SessionId: d.s.id, Namespace: d.s.cfg.Namespace,
			Name: d.queue, Id: d.GetId(), Token: d.GetToken(), Visibility: durationpb.New(visibility)})
		return err
	})
	if stale(err) {
		return fmt.Errorf("%w: %w", queue.ErrStaleDelivery, err)
	}
	return err
}

// settle makes a call that ends the delivery. One that is repeated finds it over if
// the first one was carried out and its answer lost.
func (d *Delivery) settle(ctx context.Context, call func(cc grpc.ClientConnInterface) error) error {
	doubt := false
	err := d.s.client.Wait(ctx, nil, func(cc grpc.ClientConnInterface, _ *durationpb.Duration) error {
		err := call(cc)
		doubt = doubt || recipe.Reason(err) == "outcome_unknown" || recipe.Reason(err) == "" && lostHost(ctx, err)
		return err
	})
	switch {
	case stale(err) && !doubt:
		return fmt.Errorf("%w: %w", queue.ErrStaleDelivery, err)
	case stale(err), err != nil && doubt, status.Code(err) == codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", core.ErrUnknownOutcome, err)
	}
	return err
}

// stale reports whether a host said that a delivery is over.
func stale(err error) bool {
	reason := recipe.Reason(err)
	return reason == "stale_delivery" || reason == "session_expired"
}
