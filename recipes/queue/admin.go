package queue

import (
	"context"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/queue"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// Pause implements the method of the QueueService.
func (i *instance) Pause(ctx context.Context, req *queuev1.PauseRequest) (*queuev1.PauseResponse, error) {
	q, _, err := i.lent(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := done(ctx, q.Pause); err != nil {
		return nil, err
	}
	return &queuev1.PauseResponse{}, nil
}

// Resume implements the method of the QueueService.
func (i *instance) Resume(ctx context.Context, req *queuev1.ResumeRequest) (*queuev1.ResumeResponse, error) {
	q, _, err := i.lent(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := done(ctx, q.Resume); err != nil {
		return nil, err
	}
	return &queuev1.ResumeResponse{}, nil
}

// Requeue implements the method of the QueueService.
func (i *instance) Requeue(ctx context.Context, req *queuev1.RequeueRequest) (*queuev1.RequeueResponse, error) {
	n, err := i.dead(ctx, req, (*queue.Queue[payload]).Requeue)
	if err != nil {
		return nil, err
	}
	return &queuev1.RequeueResponse{Requeued: n}, nil
}

// Drop implements the method of the QueueService.
func (i *instance) Drop(ctx context.Context, req *queuev1.DropRequest) (*queuev1.DropResponse, error) {
	n, err := i.dead(ctx, req, (*queue.Queue[payload]).Drop)
	if err != nil {
		return nil, err
	}
	return &queuev1.DropResponse{Dropped: n}, nil
}

// A deadRequest names dead letters.
type deadRequest interface {
	nameRequest
	GetIds() []string
	GetAll() bool
}

// dead does something with dead letters, page by page, as long as the call lasts.
func (i *instance) dead(ctx context.Context, req deadRequest, do func(*queue.Queue[payload], context.Context, ...queue.ID) (int, error)) (int64, error) {
	if (len(req.GetIds()) > 0) == req.GetAll() {
		return 0, service.Invalidf("ids", "give either ids or all")
	}
	q, _, err := i.lent(ctx, req)
	if err != nil {
		return 0, err
	}
	ids := make([]queue.ID, len(req.GetIds()))
	for n, id := range req.GetIds() {
		ids[n] = queue.ID(id)
	}
	n, err := do(q.DeadLetters(), ctx, ids...)
	return int64(n), status(err)
}
