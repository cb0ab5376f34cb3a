package scope

import (
	"context"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// sweepAt is the number of own leases at which the first look for ended ones is
// taken.
const sweepAt = 256

// leases are those that the space granted, with the time at which each ends
// unless it is renewed.
type leases struct {
	mu       sync.Mutex
	own      map[int64]time.Time
	limit    int // of own, beyond which ended ones are looked for
	sweeping bool
}

func (l *leases) keep(id, seconds int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.own[id] = time.Now().Add(time.Duration(seconds) * time.Second)
}

// renewed moves the end of a lease; zero seconds say that it is gone.
func (l *leases) renewed(id, seconds int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.own[id]; !ok {
		return
	}
	if seconds <= 0 {
		delete(l.own, id)
		return
	}
	l.own[id] = time.Now().Add(time.Duration(seconds) * time.Second)
}

func (l *leases) owns(id int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.own[id]
	return ok
}

// overdue returns the leases that should have ended by now, if there are so many
// leases that it is time to look, and nobody else is looking. swept must follow
// if there are any.
func (l *leases) overdue() []int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.own) < l.limit || l.sweeping {
		return nil
	}
	var ids []int64
	now := time.Now()
	for id, end := range l.own {
		if end.Before(now) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		l.limit = 2 * len(l.own)
		return nil
	}
	l.sweeping = true
	return ids
}

// swept forgets those of the overdue leases that etcd does not list; a lease may
// outlive its time, for instance by a change of leader.
func (l *leases) swept(overdue []int64, listed *pb.LeaseLeasesResponse) {
	live := make(map[int64]bool, len(listed.GetLeases()))
	for _, st := range listed.GetLeases() {
		live[st.GetID()] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, id := range overdue {
		if !live[id] {
			delete(l.own, id)
		}
	}
	l.limit = max(sweepAt, 2*len(l.own))
	l.sweeping = false
}

// leaseClient is the space as etcd's Lease API.
type leaseClient struct{ s *Space }

// LeaseGrant grants a lease, which then is the space's own. An id of the caller's
// choice is refused: who can choose ids can take one that another will be given.
func (c leaseClient) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest, _ ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	if r.GetID() != 0 {
		return nil, c.s.refusals.note(kindLeaseID)
	}
	ctx = plainContext(ctx)
	c.sweep(ctx)
	resp, err := c.s.back.Lease.LeaseGrant(ctx, r, c.s.calls...)
	if err == nil && resp.Error == "" {
		c.s.leases.keep(resp.ID, resp.TTL)
	}
	return resp, err
}

// sweep forgets leases that have ended, now and then.
func (c leaseClient) sweep(ctx context.Context) {
	overdue := c.s.leases.overdue()
	if len(overdue) == 0 {
		return
	}
	listed, err := c.s.back.Lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{}, c.s.calls...)
	if err != nil {
		overdue = nil
	}
	c.s.leases.swept(overdue, listed)
}

// gone reports whether etcd has no such lease. A lease that has ended is no
// longer known as the space's own; what is asked of it has etcd's own answer, by
// which libraries know that their lease has ended.
func (c leaseClient) gone(ctx context.Context, id int64) (bool, error) {
	resp, err := c.s.back.Lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: id}, c.s.calls...)
	return err == nil && resp.TTL < 0, err
}

// LeaseRevoke revokes one of the space's own leases.
func (c leaseClient) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest, _ ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	ctx = plainContext(ctx)
	if !c.s.leases.owns(r.GetID()) {
		if gone, err := c.gone(ctx, r.GetID()); err != nil {
			return nil, err
		} else if gone {
			return nil, rpctypes.ErrGRPCLeaseNotFound
		}
		return nil, c.s.refusals.note(kindRevoke)
	}
	resp, err := c.s.back.Lease.LeaseRevoke(ctx, r, c.s.calls...)
	if err == nil {
		c.s.leases.renewed(r.ID, 0)
	}
	return resp, err
}

// LeaseTimeToLive tells how long any lease lives, and the keys of own ones.
func (c leaseClient) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest, _ ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
	ctx = plainContext(ctx)
	foreign := r.GetKeys() && !c.s.leases.owns(r.GetID())
	if foreign {
		r = &pb.LeaseTimeToLiveRequest{ID: r.ID}
	}
	resp, err := c.s.back.Lease.LeaseTimeToLive(ctx, r, c.s.calls...)
	if err == nil && foreign && resp.TTL >= 0 {
		return nil, c.s.refusals.note(kindLeaseKeys)
	}
	if err == nil && resp.TTL < 0 {
		c.s.leases.renewed(r.ID, 0)
	}
	return resp, err
}

// LeaseLeases lists the space's own leases.
func (c leaseClient) LeaseLeases(ctx context.Context, r *pb.LeaseLeasesRequest, _ ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
	resp, err := c.s.back.Lease.LeaseLeases(plainContext(ctx), r, c.s.calls...)
	if err != nil {
		return nil, err
	}
	own := &pb.LeaseLeasesResponse{Header: resp.Header}
	for _, st := range resp.Leases {
		if c.s.leases.owns(st.GetID()) {
			own.Leases = append(own.Leases, st)
		}
	}
	return own, nil
}
