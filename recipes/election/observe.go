package election

import (
	"context"
	"slices"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/recipes/internal/history"
	"github.com/conclavehq/conclave/recipes/internal/service"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// observer is the label of the sessions that observers share.
const observer = "observer"

// maxSeats is the library's limit.
const maxSeats = 1000

// Observe implements the method of the ElectionService.
func (i *instance) Observe(req *electionv1.ObserveRequest, stream electionv1.ElectionService_ObserveServer) error {
	space, err := i.Named(stream.Context(), req.GetNamespace(), req.GetName())
	if err != nil {
		return err
	}
	if n := req.GetSeats(); n < 0 || n > maxSeats {
		return service.Invalidf("seats", "%d is outside 0 to %d", n, maxSeats)
	}
	if req.GetAfterRevision() < 0 {
		return service.Invalidf("after_revision", "%d is negative", req.GetAfterRevision())
	}
	if err := stream.SendHeader(nil); err != nil { // before the first change there may be nothing to say
		return err
	}
	ctx, done := i.Until(stream.Context())
	defer done()
	e, err := i.observed(ctx, space, req)
	if err != nil {
		return err
	}
	v := view{i: i, space: space, name: req.GetName(), stream: stream, after: req.GetAfterRevision()}
	for seats, err := range e.ObserveSeats(ctx) {
		if err != nil {
			return ended(ctx, err)
		}
		if err := v.see(ctx, &seats); err != nil {
			return err
		}
	}
	return ended(ctx, nil)
}

// ended is the error of an observation that is over.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return recipe.Status(err)
}

// observed is the election of a request.
func (i *instance) observed(ctx context.Context, space state.Space, req *electionv1.ObserveRequest) (*election.Election, error) {
	s, err := i.Lend(ctx, observer, space.Namespace())
	if err != nil {
		return nil, err
	}
	seats := int(req.GetSeats())
	if seats == 0 {
		n, _, err := i.look(ctx, space, req.GetName(), false)
		if err != nil {
			return nil, recipe.Status(err)
		}
		seats = max(n.Limit(), 1)
	}
	return election.New(s, req.GetName(), election.WithSeats(seats)), nil
}

// A view is what one observer is told.
type view struct {
	i      *instance
	space  state.Space
	name   string
	stream electionv1.ElectionService_ObserveServer
	after  int64 // the revision of what an earlier call told last, 0 once that is made up for

	told []*electionv1.Leader
}

// see tells of what the library shows. Its first state is the one of now: what lies
// between it and an earlier call is read from etcd's own history.
func (v *view) see(ctx context.Context, seats *election.Seats) error {
	after := v.after
	v.after = 0
	switch {
	case after == 0:
	case after > seats.Revision: // of another store
		seats.Gap = true
	default:
		return v.makeUp(ctx, after, seats.Revision)
	}
	leaders := make([]*electionv1.Leader, len(seats.Leaders))
	for k := range seats.Leaders {
		leaders[k] = seenOf(&seats.Leaders[k])
	}
	return v.tell(seats.Revision, leaders, seats.Gap)
}

// makeUp tells of what changed between two revisions.
func (v *view) makeUp(ctx context.Context, after, to int64) error {
	type seen struct {
		revision int64
		leaders  []*electionv1.Leader
		gap      bool
	}
	states, err := service.Bounded(ctx, func(ctx context.Context) (states []seen, err error) {
		err = history.Between(ctx, v.i.Env.Client, v.space, v.name, after, to, func(rev int64, n *state.Name, gap bool) {
			states = append(states, seen{rev, seenIn(n), gap})
		})
		return states, err
	})
	if err != nil {
		return recipe.Status(err)
	}
	for k, s := range states {
		if k == 0 && !s.gap {
			v.told = s.leaders // by the earlier call
			continue
		}
		if !s.gap && same(s.leaders, v.told) {
			continue
		}
		if err := v.tell(s.revision, s.leaders, s.gap); err != nil {
			return err
		}
	}
	return nil
}

func (v *view) tell(revision int64, leaders []*electionv1.Leader, gap bool) error {
	v.told = leaders
	resp := &electionv1.ObserveResponse{Revision: revision, Vacant: len(leaders) == 0, Gap: gap, Leaders: leaders}
	if len(leaders) > 0 {
		first := leaders[0]
		resp.Owner, resp.Value, resp.Token, resp.Since = first.GetOwner(), first.GetValue(), first.GetToken(), first.GetSince()
	}
	return v.stream.Send(resp)
}

// same tells whether the same lead, in the same terms and with the same values.
func same(a, b []*electionv1.Leader) bool {
	return slices.EqualFunc(a, b, func(x, y *electionv1.Leader) bool {
		return x.GetToken() == y.GetToken() && x.GetValue() == y.GetValue()
	})
}
