package election

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/recipes/internal/service"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// maxListed bounds the leaders, and the candidates, in one answer.
const maxListed = 1000

// Leader implements the method of the ElectionService.
func (i *instance) Leader(ctx context.Context, req *electionv1.LeaderRequest) (*electionv1.LeaderResponse, error) {
	space, err := i.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, err
	}
	n, revision, err := i.look(ctx, space, req.GetName(), false)
	if err != nil {
		return nil, recipe.Status(err)
	}
	leaders := leadersOf(n, maxListed)
	if len(leaders) == 0 {
		return nil, recipe.Errorf(codes.NotFound, service.ReasonNotFound, "nobody leads %q", req.GetName())
	}
	first := leaders[0]
	return &electionv1.LeaderResponse{Name: req.GetName(), Owner: first.GetOwner(), Value: first.GetValue(), Token: first.GetToken(),
		Since: first.GetSince(), Leaders: leaders, Revision: revision}, nil
}

// Contenders implements the method of the ElectionService.
func (i *instance) Contenders(ctx context.Context, req *electionv1.ContendersRequest) (*electionv1.ContendersResponse, error) {
	space, err := i.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, err
	}
	n, revision, err := i.look(ctx, space, req.GetName(), true)
	if err != nil {
		return nil, recipe.Status(err)
	}
	resp := &electionv1.ContendersResponse{Name: req.GetName(), Leaders: leadersOf(n, maxListed), Seats: seatsOf(n), Revision: revision}
	leases := make(map[int64]bool)
	for _, l := range resp.GetLeaders() {
		leases[l.GetLease()] = true
	}
	for _, w := range service.First(n.Waiters(), maxListed) {
		resp.Candidates = append(resp.Candidates, candidateOf(&w))
		leases[w.Lease] = true
	}
	ttls := i.TTLs(ctx, leases)
	for _, l := range resp.GetLeaders() {
		l.Ttl = ttls[l.GetLease()]
	}
	for _, c := range resp.GetCandidates() {
		c.Ttl = ttls[c.GetLease()]
	}
	return resp, nil
}

// List implements the method of the ElectionService.
func (i *instance) List(ctx context.Context, req *electionv1.ListRequest) (*electionv1.ListResponse, error) {
	page, next, err := i.Page(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := &electionv1.ListResponse{NextPageToken: next}
	leases := make(map[int64]bool)
	for _, n := range page {
		e := electionOf(n)
		resp.Elections = append(resp.Elections, e)
		if len(e.GetLeaders()) > 0 {
			leases[e.GetLeaders()[0].GetLease()] = true
		}
	}
	ttls := i.TTLs(ctx, leases)
	for _, e := range resp.GetElections() {
		if len(e.GetLeaders()) > 0 {
			e.Ttl = ttls[e.GetLeaders()[0].GetLease()]
			e.GetLeaders()[0].Ttl = e.GetTtl()
		}
	}
	return resp, nil
}

// Watch implements the method of the ElectionService.
func (i *instance) Watch(req *electionv1.WatchRequest, stream electionv1.ElectionService_WatchServer) error {
	return i.Service.Watch(stream.Context(), req, func(c service.Change) error {
		msg := &electionv1.WatchResponse{Revision: c.Revision, Initial: c.Initial, More: c.More}
		for _, n := range c.Names {
			if n.Idle() {
				msg.Elections = append(msg.Elections, &electionv1.Election{Name: n.Text()})
			} else {
				msg.Elections = append(msg.Elections, electionOf(n))
			}
		}
		return stream.Send(msg)
	})
}

// look reads who leads in an election, what leaders are told and, with line, who
// stands. It is one moment, whose revision it returns. A name that nobody uses is
// an idle one. Options are of the read of leaders.
func (i *instance) look(ctx context.Context, space state.Space, name string, line bool, opts ...clientv3.OpOption) (*state.Name, int64, error) {
	var ops []clientv3.Op
	for _, r := range space.Owners(name) {
		ops = append(ops, clientv3.OpGet(r.From, append(opts, clientv3.WithRange(r.End))...))
	}
	resp, err := service.Bounded(ctx, func(ctx context.Context) (*clientv3.TxnResponse, error) {
		return i.Env.Client.Txn(ctx).Then(ops...).Commit()
	})
	if err != nil {
		return nil, 0, err
	}
	names, segment := state.NewNames(space), keyspace.Escape(name)
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			names.Put(kv)
		}
	}
	n := names.Get(segment)
	if line || n != nil && n.Limit() > 0 { // of several seats the tokens are in the tickets
		if _, err := i.Load(ctx, names, space.Line(name), resp.Header.Revision); err != nil {
			return nil, 0, err
		}
		n = names.Get(segment)
	}
	if n == nil {
		n = &state.Name{Segment: segment}
	}
	return n, resp.Header.Revision, nil
}
