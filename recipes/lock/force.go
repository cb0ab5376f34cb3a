package lock

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/waitqueue"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// ForceRelease implements the method of the LockService.
func (i *instance) ForceRelease(ctx context.Context, req *lockv1.ForceReleaseRequest) (*lockv1.ForceReleaseResponse, error) {
	s, err := i.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, err
	}
	if err := checkForce(req); err != nil {
		return nil, err
	}
	by, err := service.By(ctx, req.GetBy())
	if err != nil {
		return nil, err
	}
	asked, err := i.Lend(ctx, by, s.Namespace())
	if err != nil {
		return nil, err
	}
	mutex := lock.NewMutex(asked, req.GetName())
	if want := core.Token(req.GetToken()); want != 0 {
		holders, err := mutex.Contenders(ctx)
		if err != nil {
			return nil, status(err)
		}
		if !slices.ContainsFunc(holders, func(c lock.Contender) bool { return c.Holds && c.Token == want }) {
			return nil, recipe.Errorf(codes.FailedPrecondition, service.ReasonStaleToken, "nobody holds %q with the token %d", req.GetName(), want)
		}
	}
	token, err := mutex.ForceRelease(ctx, req.GetReason())
	if err != nil {
		return nil, service.ForceStatus(status(err), "holder")
	}
	i.Saw(s.Namespace())
	return &lockv1.ForceReleaseResponse{Token: int64(token)}, nil
}

func checkForce(req *lockv1.ForceReleaseRequest) error {
	if req.GetReason() == "" {
		return service.Invalidf("reason", "is empty; say why, the holder and the history read it")
	}
	if req.GetToken() < 0 {
		return service.Invalidf("token", "%d is negative", req.GetToken())
	}
	return service.Invalid(keyspace.CheckText("reason", req.GetReason(), waitqueue.MaxPurpose))
}
