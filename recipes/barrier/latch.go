package barrier

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// CountDown implements the method of the BarrierService.
func (i *instance) CountDown(ctx context.Context, req *barrierv1.CountDownRequest) (*barrierv1.CountDownResponse, error) {
	s, err := i.lend(ctx, req)
	if err != nil {
		return nil, err
	}
	l := barrier.NewLatch(s, req.GetName(), int(req.GetCount()))
	left, err := writing(ctx, func(ctx context.Context) (int, error) {
		if err := l.CountDown(ctx, req.GetOperation()); err != nil {
			return 0, err
		}
		return l.Count(ctx)
	})
	if err != nil {
		return nil, status(err)
	}
	return &barrierv1.CountDownResponse{Remaining: int32(left)}, nil
}

// Await implements the method of the BarrierService.
func (i *instance) Await(ctx context.Context, req *barrierv1.AwaitRequest) (*barrierv1.AwaitResponse, error) {
	wait, s, err := i.watcher(ctx, req)
	if err != nil {
		return nil, err
	}
	l := barrier.NewLatch(s, req.GetName(), int(req.GetCount()))
	if looks(req) {
		if left, err := service.Bounded(ctx, l.Count); err == nil && left > 0 {
			return nil, recipe.Errorf(codes.Aborted, reasonNotReady, "latch %q: %d left to count", req.GetName(), left)
		}
	}
	waiting, done := i.Waiting(ctx, wait)
	defer done()
	err = l.Await(waiting)
	switch {
	case waited(err):
		return nil, counting(ctx, l, req.GetName(), wait)
	case err != nil:
		return nil, status(err)
	}
	return &barrierv1.AwaitResponse{}, nil
}

// counting is the error of a wait for a latch, with what is left if etcd tells.
func counting(ctx context.Context, l *barrier.Latch, name string, wait time.Duration) error {
	left, err := service.Bounded(ctx, l.Count)
	if err != nil {
		return notReady("latch", name, wait)
	}
	return recipe.Errorf(codes.Aborted, reasonNotReady, "latch %q: %d left to count after %v", name, left, wait)
}

// Reset implements the method of the BarrierService.
func (i *instance) Reset(ctx context.Context, req *barrierv1.ResetRequest) (*barrierv1.ResetResponse, error) {
	s, err := i.lend(ctx, req)
	if err != nil {
		return nil, err
	}
	l := barrier.NewLatch(s, req.GetName(), int(req.GetCount()))
	_, err = writing(ctx, func(ctx context.Context) (struct{}, error) { return struct{}{}, l.Reset(ctx) })
	if err != nil {
		return nil, status(err)
	}
	return &barrierv1.ResetResponse{}, nil
}
