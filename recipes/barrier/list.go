package barrier

import (
	"context"
	"encoding/base64"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

const (
	defaultPage = 100
	maxPage     = 1000
	maxMembers  = 100 // that are told of one barrier
)

// List implements the method of the BarrierService.
func (i *instance) List(ctx context.Context, req *barrierv1.ListRequest) (*barrierv1.ListResponse, error) {
	q, err := i.query(ctx, req)
	if err != nil {
		return nil, err
	}
	page, err := service.Bounded(ctx, func(ctx context.Context) (*barrier.Page, error) { return barrier.List(ctx, i.Env.Client, q) })
	if err != nil {
		return nil, status(err)
	}
	resp := &barrierv1.ListResponse{Revision: page.Revision}
	for k := range page.States {
		resp.Barriers = append(resp.Barriers, stateOf(&page.States[k]))
	}
	if page.Next != "" {
		resp.NextPageToken = base64.RawURLEncoding.EncodeToString([]byte(page.Next))
	}
	return resp, nil
}

// query reads a request; the error names the field.
func (i *instance) query(ctx context.Context, req *barrierv1.ListRequest) (barrier.Query, error) {
	space, err := i.Space(ctx, req.GetNamespace())
	if err != nil {
		return barrier.Query{}, err
	}
	q := barrier.Query{Namespace: space.Namespace(), Prefix: req.GetPrefix(), Limit: int(req.GetPageSize())}
	if err := service.Invalid(keyspace.CheckText("prefix", q.Prefix, keyspace.MaxName)); err != nil {
		return q, err
	}
	switch {
	case q.Limit < 0:
		return q, service.Invalidf("page_size", "%d is negative", q.Limit)
	case q.Limit == 0:
		q.Limit = defaultPage
	}
	q.Limit = min(q.Limit, maxPage)
	if req.GetPageToken() != "" {
		after, err := base64.RawURLEncoding.DecodeString(req.GetPageToken())
		if err != nil || keyspace.CheckName("name", string(after)) != nil {
			return q, service.Invalidf("page_token", "is not one that List returned")
		}
		q.After = string(after)
	}
	return q, nil
}

func stateOf(s *barrier.State) *barrierv1.State {
	state := &barrierv1.State{Name: s.Name, Kind: kindOf(s.Kind), Phase: phaseOf(s.Phase), Parties: int32(s.Parties), There: int32(s.There), Generation: s.Generation}
	for _, m := range service.First(s.Members, maxMembers) {
		state.Members = append(state.Members, &barrierv1.Party{Owner: m.Owner, Token: int64(m.Token), Since: service.Time(m.Since),
			Purpose: m.Purpose, Persistent: m.Persistent, Host: m.Host, Pid: int32(m.PID)})
	}
	return state
}

func kindOf(k barrier.Kind) barrierv1.Kind {
	switch k {
	case barrier.KindBarrier:
		return barrierv1.Kind_KIND_BARRIER
	case barrier.KindDouble:
		return barrierv1.Kind_KIND_DOUBLE
	case barrier.KindCyclic:
		return barrierv1.Kind_KIND_CYCLIC
	case barrier.KindLatch:
		return barrierv1.Kind_KIND_LATCH
	default:
		return barrierv1.Kind_KIND_UNSPECIFIED
	}
}

func phaseOf(p barrier.Phase) barrierv1.Phase {
	switch p {
	case barrier.PhaseOpen:
		return barrierv1.Phase_PHASE_OPEN
	case barrier.PhaseHeld:
		return barrierv1.Phase_PHASE_HELD
	case barrier.PhaseGathering:
		return barrierv1.Phase_PHASE_GATHERING
	case barrier.PhaseInside:
		return barrierv1.Phase_PHASE_INSIDE
	default:
		return barrierv1.Phase_PHASE_UNSPECIFIED
	}
}
