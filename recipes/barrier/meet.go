package barrier

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// A meetRequest is about parties that meet.
type meetRequest interface {
	waitRequest
	GetParties() int32
	GetPurpose() string
}

// meeting returns the session of the caller, how long it waits, and how it comes.
func (i *instance) meeting(ctx context.Context, req meetRequest) (*core.Session, time.Duration, []barrier.Option, error) {
	wait, err := bound(req)
	if err != nil {
		return nil, 0, nil, err
	}
	s, err := i.party(ctx, req)
	return s, wait, []barrier.Option{barrier.WithOnePerSession(), barrier.WithPurpose(req.GetPurpose())}, err
}

// Enter implements the method of the BarrierService.
func (i *instance) Enter(ctx context.Context, req *barrierv1.EnterRequest) (*barrierv1.EnterResponse, error) {
	s, wait, opts, err := i.meeting(ctx, req)
	if err != nil {
		return nil, err
	}
	if req.GetBreakOnLoss() {
		opts = append(opts, barrier.WithBreakOnLoss())
	}
	waiting, done := i.Waiting(ctx, wait)
	defer done()
	e, err := barrier.NewDouble(s, req.GetName(), int(req.GetParties()), opts...).Enter(waiting)
	if waited(err) {
		return nil, notReady("double barrier", req.GetName(), wait)
	}
	if err != nil {
		return nil, status(err)
	}
	e.Detach()
	return &barrierv1.EnterResponse{Token: int64(e.Token()), Generation: e.Generation()}, nil
}

// Leave implements the method of the BarrierService.
func (i *instance) Leave(ctx context.Context, req *barrierv1.LeaveRequest) (*barrierv1.LeaveResponse, error) {
	wait, err := bound(req)
	if err != nil {
		return nil, err
	}
	token, s, err := i.owner(ctx, req, "Enter")
	if err != nil {
		return nil, err
	}
	d := barrier.NewDouble(s, req.GetName(), 1) // the parties are those of the generation that it is inside of
	e, err := service.Bounded(ctx, func(ctx context.Context) (*barrier.Entry, error) { return d.Resume(ctx, token) })
	if err == nil {
		waiting, done := i.Waiting(ctx, wait)
		defer done()
		err = e.Leave(waiting)
	}
	switch {
	case err == nil:
		return &barrierv1.LeaveResponse{}, nil
	case waited(err):
		return nil, recipe.Errorf(codes.Aborted, reasonNotReady, "double barrier %q: left, but others had not within %v", req.GetName(), wait)
	}
	return nil, i.notOwner(ctx, err, words{"is inside", "is not inside"}, req.GetName(), func(ctx context.Context) (core.Token, error) {
		now, err := d.Resume(ctx, 0)
		if err != nil {
			return 0, err
		}
		defer now.Detach()
		return now.Token(), nil
	})
}

// Cycle implements the method of the BarrierService.
func (i *instance) Cycle(ctx context.Context, req *barrierv1.CycleRequest) (*barrierv1.CycleResponse, error) {
	s, wait, opts, err := i.meeting(ctx, req)
	if err != nil {
		return nil, err
	}
	opts = append(opts, barrier.WithOperation(req.GetOperation()))
	waiting, done := i.Waiting(ctx, wait)
	defer done()
	generation, err := barrier.NewCyclic(s, req.GetName(), int(req.GetParties()), opts...).Await(waiting)
	if waited(err) {
		return nil, notReady("cyclic barrier", req.GetName(), wait)
	}
	if err != nil {
		return nil, status(err)
	}
	return &barrierv1.CycleResponse{Generation: generation}, nil
}
