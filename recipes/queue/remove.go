package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/queue"
)

// toTell is how much of a call's time a forced removal leaves at most for its answer:
// after the caller's deadline nobody would hear what was deleted.
const toTell = 2 * time.Second

// Remove implements the method of the QueueService. With force it lasts nearly as long as
// the call may.
func (i *instance) Remove(ctx context.Context, req *queuev1.RemoveRequest) (*queuev1.RemoveResponse, error) {
	q, _, err := i.lent(ctx, req)
	if err != nil {
		return nil, err
	}
	if !req.GetForce() {
		if err := done(ctx, q.Remove); err != nil {
			return nil, err
		}
		return &queuev1.RemoveResponse{}, nil
	}
	within, cancel := leavingTime(ctx)
	defer cancel()
	deleted, err := q.Destroy(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil &&
		(errors.Is(err, core.ErrUnknownOutcome) || errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, queue.ErrInUse)) {
		err = recipe.Errorf(codes.DeadlineExceeded, reasonTimeout, "the call's time was over before everything was deleted: remove it again")
	}
	if err != nil {
		return nil, telling(status(err), deleted)
	}
	return &queuev1.RemoveResponse{Items: int64(deleted.Items), Dead: int64(deleted.Dead)}, nil
}

// leavingTime ends a little before a call's deadline, if the call has one.
func leavingTime(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(toTell, time.Until(deadline)/4)))
}

// telling adds to the error of a call what was deleted. A transaction without an answer may
// have deleted more.
func telling(err error, deleted queue.Removed) error {
	if deleted == (queue.Removed{}) {
		return err
	}
	counts := fmt.Sprintf("known to be deleted: items %d, dead letters %d", deleted.Items, deleted.Dead)
	why := recipe.Reason(err)
	if why == "" {
		return fmt.Errorf("%w; %s", err, counts)
	}
	st := grpcstatus.Convert(err)
	return recipe.Errorf(st.Code(), why, "%s; %s", strings.TrimPrefix(st.Message(), why+": "), counts)
}
