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
	return &renewals{Lease_LeaseKeepAliveClient: stream, s: c.s, cancel: cancel}, nil
}

// renewals refuses single renewals of a stream.
//
// A stream that begins with a lease of somebody else's ends with the refusal.
// One that has renewed an own lease must go on, or that one would be lost: there
// a lease of somebody else's is answered as one that does not exist. To keep the
// order of answers, etcd itself is asked for no lease in its place.
type renewals struct {
	pb.Lease_LeaseKeepAliveClient
	s      *Space
	cancel context.CancelFunc

	mu      sync.Mutex
	started bool
	refused error
	foreign []int64 // for each renewal of noLease that etcd has yet to answer: the lease that was asked for
}

// Send checks a renewal and sends it on.
func (k *renewals) Send(r *pb.LeaseKeepAliveRequest) error {
	r, err := k.admit(r)
	if err != nil {
		k.cancel()
		return err
	}
	return k.Lease_LeaseKeepAliveClient.Send(r)
}

func (k *renewals) admit(r *pb.LeaseKeepAliveRequest) (*pb.LeaseKeepAliveRequest, error) {
	own := k.s.leases.owns(r.GetID())
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.refused != nil:
	case own:
		k.started = true
		return r, nil
	case k.started:
		_ = k.s.refusals.note(kindKeepAlive)
		k.foreign = append(k.foreign, r.GetID())
		return &pb.LeaseKeepAliveRequest{ID: noLease}, nil
	default:
		k.refused = k.s.refusals.note(kindKeepAlive)
	}
	return nil, k.refused
}

// Recv returns the next answer.
func (k *renewals) Recv() (*pb.LeaseKeepAliveResponse, error) {
	resp, err := k.Lease_LeaseKeepAliveClient.Recv()
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.cancel() // else the context stays with its parent for as long as that lives
		if k.refused != nil {
			err = k.refused
		}
		return nil, err
	}
	if resp.ID == noLease && len(k.foreign) > 0 {
		resp.ID, k.foreign = k.foreign[0], k.foreign[1:]
		return resp, nil
	}
	k.s.leases.renewed(resp.ID, resp.TTL)
	return resp, nil
}
