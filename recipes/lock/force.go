package lock

import (
	"context"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/waitqueue"
	"github.com/conclavehq/conclave/lock"
)

// operator is who forces a release if nobody says who asks.
const operator = "operator"

// maxBy bounds the label of who asks, as that of an owner.
const maxBy = 255

// ForceRelease implements the method of the LockService.
func (i *instance) ForceRelease(ctx context.Context, req *lockv1.ForceReleaseRequest) (*lockv1.ForceReleaseResponse, error) {
	s, err := i.named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, err
	}
	if err := checkForce(req); err != nil {
		return nil, err
	}
	own := i.own.Load()
	if own == nil {
		return nil, recipe.Errorf(codes.Unavailable, recipe.ReasonNoQuorum, "the recipe has no session in etcd yet; call again")
	}
	asked, err := i.lender.Session(core.Loan{Lease: own.Lease(), TTL: own.TTL(), Owner: by(ctx, req), Namespace: s.Namespace(), Log: i.env.Log})
	if err != nil {
		return nil, recipe.Status(err)
	}
	mutex := lock.NewMutex(asked, req.GetName())
	if want := core.Token(req.GetToken()); want != 0 {
		holders, err := mutex.Contenders(ctx)
		if err != nil {
			return nil, status(err)
		}
		if !slices.ContainsFunc(holders, func(c lock.Contender) bool { return c.Holds && c.Token == want }) {
			return nil, recipe.Errorf(codes.FailedPrecondition, reasonStaleToken, "nobody holds %q with the token %d", req.GetName(), want)
		}
	}
	token, err := mutex.ForceRelease(ctx, req.GetReason())
	if err != nil {
		return nil, forceStatus(err)
	}
	i.saw(s.Namespace())
	return &lockv1.ForceReleaseResponse{Token: int64(token)}, nil
}

// forceStatus is the error of a forced release. Without space other releases still
// work; this one has to write first, to tell the holder.
func forceStatus(err error) error {
	err = status(err)
	if recipe.Reason(err) == recipe.ReasonNoSpace {
		return recipe.Errorf(codes.ResourceExhausted, recipe.ReasonNoSpace,
			"etcd's database is full, and the holder cannot be told: an operator has to make room, or end the holder or its session")
	}
	return err
}

func checkForce(req *lockv1.ForceReleaseRequest) error {
	if req.GetReason() == "" {
		return invalidf("reason", "is empty; say why, the holder and the history read it")
	}
	if req.GetToken() < 0 {
		return invalidf("token", "%d is negative", req.GetToken())
	}
	if err := keyspace.CheckText("reason", req.GetReason(), waitqueue.MaxPurpose); err != nil {
		return invalid(err)
	}
	return invalid(keyspace.CheckText("by", req.GetBy(), maxBy))
}

// by is who asks, as the holder reads it.
func by(ctx context.Context, req *lockv1.ForceReleaseRequest) string {
	if req.GetBy() != "" {
		return req.GetBy()
	}
	if id := metadata.ValueFromIncomingContext(ctx, recipe.MetaIdentity); len(id) > 0 && id[0] != "" {
		return id[0]
	}
	return operator
}
