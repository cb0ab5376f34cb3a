package scope

import (
	"context"
	"errors"
	"io"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Register serves the space on reg as etcd's own KV, Watch and Lease API, for a
// recipe in another process. Its streams end with Close.
func (s *Space) Register(reg grpc.ServiceRegistrar) {
	pb.RegisterKVServer(reg, kvServer{s: s, c: kvClient{s}})
	pb.RegisterWatchServer(reg, watchServer{s: s})
	pb.RegisterLeaseServer(reg, leaseServer{s: s, c: leaseClient{s}})
}

// Unknown is a handler for [grpc.UnknownServiceHandler] that refuses whatever
// Register does not serve, with the same error as a client in this process gets.
func (s *Space) Unknown(_ any, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	return s.refusals.note(kindOf(method))
}

// kvServer serves the KV API.
type kvServer struct {
	pb.UnimplementedKVServer
	s *Space
	c kvClient
}

func (k kvServer) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	return k.c.Range(servedContext(ctx), r)
}

func (k kvServer) Put(ctx context.Context, r *pb.PutRequest) (*pb.PutResponse, error) {
	return k.c.Put(servedContext(ctx), r)
}

func (k kvServer) DeleteRange(ctx context.Context, r *pb.DeleteRangeRequest) (*pb.DeleteRangeResponse, error) {
	return k.c.DeleteRange(servedContext(ctx), r)
}

func (k kvServer) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	return k.c.Txn(servedContext(ctx), r)
}

func (k kvServer) Compact(ctx context.Context, r *pb.CompactionRequest) (*pb.CompactionResponse, error) {
	return k.c.Compact(ctx, r)
}

func (k kvServer) RangeStream(r *pb.RangeRequest, down pb.KV_RangeStreamServer) error {
	ctx, cancel := k.s.stream(down.Context())
	defer cancel()
	up, err := k.c.RangeStream(ctx, r)
	if err != nil {
		return err
	}
	return forward(up.Recv, down.Send)
}

// watchServer serves the Watch API.
type watchServer struct {
	pb.UnimplementedWatchServer
	s *Space
}

func (w watchServer) Watch(down pb.Watch_WatchServer) error {
	ctx, cancel := w.s.stream(down.Context())
	defer cancel()
	up, err := watchClient{w.s}.Watch(ctx)
	if err != nil {
		return err
	}
	if !w.s.relay(cancel, up, func() error { return forward(down.Recv, up.Send) }) {
		return errClosed
	}
	return forward(up.Recv, down.Send)
}

// leaseServer serves the Lease API.
type leaseServer struct {
	pb.UnimplementedLeaseServer
	s *Space
	c leaseClient
}

func (l leaseServer) LeaseGrant(ctx context.Context, r *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return l.c.LeaseGrant(servedContext(ctx), r)
}

func (l leaseServer) LeaseRevoke(ctx context.Context, r *pb.LeaseRevokeRequest) (*pb.LeaseRevokeResponse, error) {
	return l.c.LeaseRevoke(servedContext(ctx), r)
}

func (l leaseServer) LeaseTimeToLive(ctx context.Context, r *pb.LeaseTimeToLiveRequest) (*pb.LeaseTimeToLiveResponse, error) {
	return l.c.LeaseTimeToLive(servedContext(ctx), r)
}

func (l leaseServer) LeaseLeases(ctx context.Context, r *pb.LeaseLeasesRequest) (*pb.LeaseLeasesResponse, error) {
	return l.c.LeaseLeases(servedContext(ctx), r)
}

func (l leaseServer) LeaseKeepAlive(down pb.Lease_LeaseKeepAliveServer) error {
	ctx, cancel := l.s.stream(down.Context())
	defer cancel()
	up, err := l.c.LeaseKeepAlive(ctx)
	if err != nil {
		return err
	}
	if !l.s.relay(cancel, up, func() error { return forward(down.Recv, up.Send) }) {
		return errClosed
	}
	return forward(up.Recv, down.Send)
}

// errClosed ends what was begun after Close.
var errClosed = status.Error(codes.Unavailable, "the recipe's share in etcd has ended")

// stream returns the context of the stream to etcd that belongs to a served one.
// It ends with that one and with the space.
func (s *Space) stream(down context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(servedContext(down))
	stop := context.AfterFunc(s.ctx, cancel)
	return ctx, func() {
		stop()
		cancel()
	}
}

// relay runs the direction of a stream that leads to etcd, in a goroutine that
// Close waits for: its reader is released only when the handler has returned. It
// reports false, and runs nothing, once the space is closed.
func (s *Space) relay(cancel context.CancelFunc, up grpc.ClientStream, run func() error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.relays.Go(func() {
		if err := run(); err != nil {
			cancel()
			return
		}
		if up.CloseSend() != nil { // the caller has nothing more to say; etcd may have
			cancel()
		}
	})
	return true
}

// forward passes messages on until there are no more, which is no error.
func forward[T any](recv func() (T, error), send func(T) error) error {
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := send(m); err != nil {
			return err
		}
	}
}
