package scope

import (
	"context"
	"errors"
	"log/slog"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

// Remote returns a client of a space that another process serves on conn with
// [Space.Register], for a recipe in this one. It is what [Space.Client] is there:
// it has neither a connection nor endpoints of its own. Closing it is safe more than
// once, ends its watches and renewals, and leaves conn open. A nil log is silent.
func Remote(conn grpc.ClientConnInterface, log *slog.Logger) (c *clientv3.Client, closeClient func() error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	conn = remote{conn, callOptions()}
	ctx, cancel := context.WithCancel(context.Background())
	c = newClient(ctx, pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewWatchClient(conn), conn, log)
	return c, func() error {
		cancel()
		if err := c.Close(); !errors.Is(err, context.Canceled) { // what a client without a connection always answers
			return err
		}
		return nil
	}
}

// remote is a connection with the options that clientv3 gives to every call.
type remote struct {
	conn  grpc.ClientConnInterface
	calls []grpc.CallOption
}

// Invoke makes a call.
func (r remote) Invoke(ctx context.Context, method string, request, reply any, opts ...grpc.CallOption) error {
	return r.conn.Invoke(ctx, method, request, reply, append(opts, r.calls...)...)
}

// NewStream opens a stream.
func (r remote) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return r.conn.NewStream(ctx, desc, method, append(opts, r.calls...)...)
}
