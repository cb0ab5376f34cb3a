package election

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/recipes/internal/service"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// Campaign implements the method of the ElectionService.
func (i *instance) Campaign(ctx context.Context, req *electionv1.CampaignRequest) (*electionv1.CampaignResponse, error) {
	space, err := i.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, err
	}
	c := candidacy{i: i, space: space, name: req.GetName(), value: req.GetValue()}
	if c.wait, err = service.Duration("wait", req.GetWait(), service.Forever); err != nil {
		return nil, err
	}
	opts, err := optionsOf(req)
	if err != nil {
		return nil, err
	}
	if c.s, err = recipe.Session(ctx, i.Env); err != nil {
		return nil, err
	}
	i.Saw(space.Namespace())
	c.e = election.New(c.s, c.name, opts...)
	token, err := c.win(ctx)
	if err != nil {
		return nil, err
	}
	return &electionv1.CampaignResponse{Token: int64(token), Name: c.name}, nil
}

// optionsOf reads how to stand. Limits are the library's.
func optionsOf(req *electionv1.CampaignRequest) ([]election.Option, error) {
	opts := []election.Option{election.WithOnePerSession(), election.WithPriority(int(req.GetPriority())), election.WithPurpose(req.GetPurpose()),
		election.WithZone(req.GetZone()), election.WithPreferredZones(req.GetPreferredZones()...)}
	if n := int(req.GetSeats()); n != 0 {
		opts = append(opts, election.WithSeats(n))
	}
	const absent = -1
	grace, err := service.Duration("grace", req.GetGrace(), absent)
	if err == nil && grace != absent {
		opts = append(opts, election.WithGrace(grace))
	}
	return opts, err
}

// A candidacy is one call of Campaign.
type candidacy struct {
	i     *instance
	e     *election.Election
	s     *core.Session
	space state.Space
	name  string
	value string
	wait  time.Duration
}

// win leads, or tells why not.
func (c *candidacy) win(ctx context.Context) (core.Token, error) {
	at := service.PlaceKey{Lease: c.s.Lease(), Name: c.name}
	c.i.places.Enter(at)
	defer c.i.places.Leave(at)
	waiting, done := c.i.Waiting(ctx, c.wait)
	defer done()
	campaign := c.e.Campaign
	if c.wait == 0 {
		campaign = c.e.TryCampaign
	}
	for {
		t, err := campaign(waiting, c.value)
		if errors.Is(err, service.ErrWaited) {
			err = c.stillLed(ctx)
		}
		if err != nil {
			return 0, status(err)
		}
		err = c.show(ctx, t)
		switch {
		case ctx.Err() != nil && !c.i.Stopping() && c.i.places.Only(at, t.Token()):
			_ = t.Resign() // the caller went away, and was told that it has nothing
			return 0, status(ctx.Err())
		case errors.Is(err, election.ErrLost): // another term may be won
			continue
		}
		c.i.places.Put(at, term{t})
		return t.Token(), status(err)
	}
}

// show makes others see the value of a term that was won with another one: by an
// earlier call, perhaps at another host.
func (c *candidacy) show(ctx context.Context, t *election.Term) error {
	leaders, err := service.Bounded(ctx, c.e.Leaders)
	if err != nil {
		return err
	}
	for _, l := range leaders {
		switch {
		case l.Token != t.Token():
		case l.Value == c.value:
			return nil
		default:
			return t.Proclaim(ctx, c.value)
		}
	}
	return election.ErrLost
}

// stillLed is the error of a wait that took as long as it may, with the leader in
// it.
func (c *candidacy) stillLed(ctx context.Context) error {
	n, _, err := c.i.look(ctx, c.space, c.name, false)
	if err == nil {
		if holders := n.Holders(); len(holders) > 0 {
			return recipe.Errorf(codes.Aborted, service.ReasonLocked, "election %q: led by %s, after %v", c.name, holders[0].Owner, c.wait)
		}
	}
	return recipe.Errorf(codes.Aborted, service.ReasonLocked, "election %q: not won after %v", c.name, c.wait)
}
