package scope

import (
	"context"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
)

// noLease is the id of no lease: etcd answers a renewal of it with a time to
// live of zero, as it does for every lease that is not there.
const noLease = 0

// LeaseKeepAlive opens a stream of renewals of the space's own leases.
func (c leaseClient) LeaseKeepAlive(ctx context.Context, _ ...grpc.CallOption) (pb.Lease_LeaseKeepAliveClient, error) {
	ctx, cancel := context.WithCancel(plainContext(ctx))
	stream, err := c.s.back.Lease.LeaseKeepAlive(ctx, c.s.calls...)
	if err != nil {
		cancel()
		return nil, err
	}
	return &renewals{Lease_LeaseKeepAliveClient: stream, c: c, ctx: ctx, cancel: cancel}, nil
}

// renewals refuses single renewals of a stream.
//
// A stream that begins with a lease of somebody else's ends with the refusal.
// One that has renewed an own lease must go on, or that one would be lost: there
// a lease of somebody else's is answered as one that does not exist. To keep the
// order of answers, etcd itself is asked for no lease in its place.
type renewals struct {
	pb.Lease_LeaseKeepAliveClient
	c      leaseClient
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	started bool    // an own lease was renewed
	ended   error   // why the stream was ended here
	absent  []int64 // for each renewal of noLease that etcd has yet to answer: the lease that was asked for
}

// Send checks a renewal and sends it on.
func (k *renewals) Send(r *pb.LeaseKeepAliveRequest) error {
	gone, err := false, error(nil)
	own := k.c.s.leases.owns(r.GetID())
	if !own {
		gone, err = k.c.gone(k.ctx, r.GetID())
	}
	if r, err = k.admit(r, own, gone, err); err != nil {
		k.cancel()
		return err
	}
	return k.Lease_LeaseKeepAliveClient.Send(r)
}

func (k *renewals) admit(r *pb.LeaseKeepAliveRequest, own, gone bool, err error) (*pb.LeaseKeepAliveRequest, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.ended != nil:
		return nil, k.ended
	case err != nil:
		k.ended = err
		return nil, err
	case own:
		k.started = true
		return r, nil
	case !gone:
		if refused := k.c.s.refusals.note(kindKeepAlive); !k.started {
			k.ended = refused
			return nil, refused
		}
	}
	k.absent = append(k.absent, r.GetID())
	return &pb.LeaseKeepAliveRequest{ID: noLease}, nil
}

// Recv returns the next answer.
func (k *renewals) Recv() (*pb.LeaseKeepAliveResponse, error) {
	resp, err := k.Lease_LeaseKeepAliveClient.Recv()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.cancel() // else the context stays with its parent for as long as that lives
		if k.ended != nil {
			err = k.ended
		}
		return nil, err
	}
	if resp.ID == noLease && len(k.absent) > 0 {
		resp.ID, k.absent = k.absent[0], k.absent[1:]
		return resp, nil
	}
	k.c.s.leases.renewed(resp.ID, resp.TTL)
	return resp, nil
}
