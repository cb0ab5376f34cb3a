package lock

import (
	"context"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/recipes/internal/service"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

const (
	maxEdges  = 1000 // of who waits for whom, in one answer
	maxListed = 1000 // holders, and waiters, in one answer
)

// Why implements the method of the LockService.
func (i *instance) Why(ctx context.Context, req *lockv1.WhyRequest) (*lockv1.WhyResponse, error) {
	s, err := i.Named(ctx, req.GetNamespace(), req.GetName())
	if err != nil {
		return nil, err
	}
	names, n, err := i.around(ctx, s, req.GetName())
	if err != nil {
		return nil, recipe.Status(err)
	}
	resp := &lockv1.WhyResponse{Name: req.GetName()}
	if n == nil {
		return resp, nil
	}
	l := lockOf(n)
	resp.Kind, resp.Limit, resp.Taken, resp.Delayed = l.GetKind(), l.GetLimit(), l.GetTaken(), n.Delayed()
	leases := make(map[int64]bool)
	for _, h := range service.First(n.Holders(), maxListed) {
		resp.Holders = append(resp.Holders, holderOf(&h))
		leases[h.Lease] = true
	}
	for _, w := range service.First(n.Waiters(), maxListed) {
		resp.Waiters = append(resp.Waiters, waiterOf(&w))
		leases[w.Lease] = true
	}
	ttls := i.TTLs(ctx, leases)
	for _, h := range resp.GetHolders() {
		h.Ttl = ttls[h.GetLease()]
	}
	for _, w := range resp.GetWaiters() {
		w.Ttl = ttls[w.GetLease()]
	}
	g := newGraph(names)
	resp.WaitsFor = toldOf(service.First(g.from(n), maxEdges))
	resp.Deadlock = toldOf(g.circle(n))
	return resp, nil
}

// around reads a name, nil if nobody uses it, and, if somebody waits for it, the
// locks of the whole namespace at the same moment: who is waited for may wait.
func (i *instance) around(ctx context.Context, s state.Space, name string) (*state.Names, *state.Name, error) {
	names := state.NewNames(s)
	rev, err := i.Load(ctx, names, state.Range{From: s.Name(name), End: keyspace.End(s.Name(name))}, 0)
	if err != nil {
		return nil, nil, err
	}
	n := names.Get(keyspace.Escape(name))
	if n == nil || n.Idle() && !n.Delayed() {
		return names, nil, nil
	}
	if n.Waiting() == 0 {
		return names, n, nil
	}
	names = state.NewNames(s)
	for _, r := range s.Names(s.Prefix(), keyspace.End(s.Prefix())) {
		if _, err := i.Load(ctx, names, r, rev); err != nil {
			return nil, nil, err
		}
	}
	n = names.Get(n.Segment)
	return names, n, nil
}

func toldOf(edges []edge) []*lockv1.WaitsFor {
	told := make([]*lockv1.WaitsFor, len(edges))
	for k, e := range edges {
		told[k] = &lockv1.WaitsFor{Name: e.name, Waiter: e.waiter.owner, WaiterLease: e.waiter.lease,
			Blocker: e.blocker.owner, BlockerLease: e.blocker.lease, Holds: e.holds}
	}
	return told
}
