package embedded

import (
	"context"
	"errors"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
)

// errStranded is why a request was ended that a change of the leader left behind.
var errStranded = errors.New("stranded")

// stranded ends the writes that a change of the leader left behind. A leader that hands over, or dies, drops what other members have forwarded to
// it, without a word: etcd lets such a request wait for seven seconds and more, and so does everybody who waits for its caller. A write that outlives
// the change in a log is applied as soon as the new leader leads; one that is not by the end of a grace is told to have an unknown outcome, in the
// words that etcd has for it.
type stranded struct {
	grace time.Duration

	mu   sync.Mutex
	open map[*strandable]struct{}
}

// strandable is a write that waits for raft.
type strandable struct{ end context.CancelCauseFunc }

func newStranded() *stranded { return &stranded{open: make(map[*strandable]struct{})} }

// do runs a write.
func (s *stranded) do(ctx context.Context, write func(ctx context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	w := &strandable{end}
	s.mu.Lock()
	s.open[w] = struct{}{}
	s.mu.Unlock()
	err := write(ctx)
	s.mu.Lock()
	delete(s.open, w)
	s.mu.Unlock()
	if err != nil && errors.Is(context.Cause(ctx), errStranded) {
		return rpctypes.ErrGRPCTimeoutDueToLeaderFail
	}
	return err
}

// watch follows the leader until done is closed. Those who write during a change are given the grace from then on.
func (s *stranded) watch(changed func() <-chan struct{}, done <-chan struct{}) {
	for next := changed(); ; {
		select {
		case <-next:
		case <-done:
			return
		}
		next = changed() // before anything else, so that no change is missed
		left := s.underWay()
		if len(left) == 0 {
			continue
		}
		time.AfterFunc(s.grace, func() {
			for _, w := range left {
				w.end(errStranded) // which is nothing for one that has its answer
			}
		})
	}
}

func (s *stranded) underWay() []*strandable {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*strandable, 0, len(s.open))
	for w := range s.open {
		all = append(all, w)
	}
	return all
}

// intercept is for calls that come by the network.
func (s *stranded) intercept(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	switch req.(type) {
	case *pb.PutRequest, *pb.DeleteRangeRequest, *pb.TxnRequest, *pb.LeaseGrantRequest, *pb.LeaseRevokeRequest:
	default:
		return handle(ctx, req)
	}
	err = s.do(ctx, func(ctx context.Context) error {
		resp, err = handle(ctx, req)
		return err
	})
	return resp, err
}

func written[A, R any](ctx context.Context, s *stranded, do func(context.Context, A, ...grpc.CallOption) (R, error), request A, opts []grpc.CallOption) (reply R, err error) {
	err = s.do(ctx, func(ctx context.Context) error {
		reply, err = do(ctx, request, opts...)
		return err
	})
	return reply, err
}

// kvNotStranded is the KV API for this process.
type kvNotStranded struct {
	pb.KVClient
	writes *stranded
}

func (k kvNotStranded) Put(ctx context.Context, r *pb.PutRequest, opts ...grpc.CallOption) (*pb.PutResponse, error) {
	return written(ctx, k.writes, k.KVClient.Put, r, opts)
}

func (k kvNotStranded) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest, opts ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
	return written(ctx, k.writes, k.KVClient.DeleteRange, r, opts)
}

func (k kvNotStranded) Txn(ctx context.Context, r *pb.TxnRequest, opts ...grpc.CallOption) (*pb.TxnResponse, error) {
	return written(ctx, k.writes, k.KVClient.Txn, r, opts)
}

// leaseNotStranded is the Lease API for this process. Renewals are no writes.
type leaseNotStranded struct {
	pb.LeaseClient
	writes *stranded
}

func (c leaseNotStranded) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest, opts ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
	return written(ctx, c.writes, c.LeaseClient.LeaseGrant, r, opts)
}

func (c leaseNotStranded) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest, opts ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
	return written(ctx, c.writes, c.LeaseClient.LeaseRevoke, r, opts)
}
