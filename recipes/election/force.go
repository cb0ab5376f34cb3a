package election

import (
	"context"
	"errors"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/waitqueue"
	"github.com/conclavehq/conclave/recipes/internal/service"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// maxTo bounds the name of a candidate: its id, or the label of its owner.
const maxTo = 255

// Transfer implements the method of the ElectionService.
func (i *instance) Transfer(ctx context.Context, req *electionv1.TransferRequest) (*electionv1.TransferResponse, error) {
	if req.GetTo() == "" {
		return nil, service.Invalidf("to", "is empty; say which candidate shall lead")
	}
	if err := service.Invalid(keyspace.CheckText("to", req.GetTo(), maxTo)); err != nil {
		return nil, err
	}
	o, err := i.asked(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := o.transfer(ctx, req.GetTo()); err != nil {
		return nil, service.ForceStatus(status(err), "leader")
	}
	i.Saw(o.space.Namespace())
	return &electionv1.TransferResponse{}, nil
}

// ForceResign implements the method of the ElectionService.
func (i *instance) ForceResign(ctx context.Context, req *electionv1.ForceResignRequest) (*electionv1.ForceResignResponse, error) {
	if req.GetReason() == "" {
		return nil, service.Invalidf("reason", "is empty; say why, the leader and the history read it")
	}
	if err := service.Invalid(keyspace.CheckText("reason", req.GetReason(), waitqueue.MaxPurpose)); err != nil {
		return nil, err
	}
	o, err := i.asked(ctx, req)
	if err != nil {
		return nil, err
	}
	token, err := o.e.ForceResign(ctx, req.GetReason(), o.whom...)
	if err != nil && !errors.Is(err, election.ErrNoLeader) {
		return nil, service.ForceStatus(status(err), "leader")
	}
	i.Saw(o.space.Namespace())
	return &electionv1.ForceResignResponse{Token: int64(token)}, nil
}

// An order is what an operator asks for of an election's leaders.
type order struct {
	e     *election.Election
	space state.Space
	whom  []string // the id of the leader whose token was given
}

// An orderRequest is about the terms of others.
type orderRequest interface {
	GetNamespace() string
	GetName() string
	GetToken() int64
	GetBy() string
}

func (o *order) transfer(ctx context.Context, to string) error {
	if len(o.whom) > 0 {
		return o.e.TransferFrom(ctx, o.whom[0], to)
	}
	return o.e.Transfer(ctx, to)
}

func (i *instance) asked(ctx context.Context, req orderRequest) (order, error) {
	space, err := i.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return order{}, err
	}
	if req.GetToken() < 0 {
		return order{}, service.Invalidf("token", "%d is negative", req.GetToken())
	}
	by, err := service.By(ctx, req.GetBy())
	if err != nil {
		return order{}, err
	}
	s, err := i.Lend(ctx, by, space.Namespace())
	if err != nil {
		return order{}, err
	}
	n, _, err := i.look(ctx, space, req.GetName(), false)
	if err != nil {
		return order{}, status(err)
	}
	o := order{e: election.New(s, req.GetName(), election.WithSeats(max(n.Limit(), 1))), space: space}
	if want := req.GetToken(); want != 0 {
		holders := n.Holders()
		for k := range holders {
			if holders[k].Token == want {
				o.whom = append(o.whom, holders[k].ID)
			}
		}
		if len(o.whom) == 0 {
			return order{}, staleToken(req.GetName(), want)
		}
	}
	return o, nil
}
