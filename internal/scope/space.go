package scope

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/logbridge"
)

// A Space is the part of etcd that one instance of a recipe may touch. It is
// safe for concurrent use.
type Space struct {
	back     Backend
	keys     keys
	leases   leases
	refusals refusals
	client   *clientv3.Client
	calls    []grpc.CallOption

	ctx    context.Context // of the client, and of streams of other processes
	cancel context.CancelFunc
	mu     sync.Mutex     // so that none enters relays once Close waits
	relays sync.WaitGroup // of streams of other processes
}

// New returns the space of the recipe that runs under the name instance. A nil
// log is silent. The error is a *keyspace.Error if no recipe can have that name.
// Close ends it.
func New(back Backend, instance string, log *slog.Logger) (*Space, error) {
	if err := keyspace.CheckRecipe("instance", instance); err != nil {
		return nil, err
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Space{
		back:     back,
		keys:     newKeys(instance),
		leases:   leases{own: make(map[int64]time.Time), limit: sweepAt},
		refusals: refusals{log: log},
		calls:    callOptions(),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.client = newClient(s.ctx, kvClient{s}, leaseClient{s}, watchClient{s}, refuser{&s.refusals}, log)
	return s, nil
}

// callOptions are what clientv3 passes with every call of its own. Without them
// gRPC refuses answers above 4 MiB, and a call fails at once while etcd is being
// reached again.
func callOptions() []grpc.CallOption {
	return []grpc.CallOption{grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(math.MaxInt32)}
}

// newClient returns a client on these services; what is in none of them goes to rest.
func newClient(ctx context.Context, kv pb.KVClient, lease pb.LeaseClient, watch pb.WatchClient, rest grpc.ClientConnInterface, log *slog.Logger) *clientv3.Client {
	c := clientv3.NewCtxClient(ctx, clientv3.WithZapLogger(zap.New(logbridge.Zap(log, zapcore.WarnLevel))))
	c.KV = clientv3.NewKVFromKVClient(kv, c)
	c.Lease = clientv3.NewLeaseFromLeaseClient(lease, c, time.Second)
	c.Watcher = watcher{clientv3.NewWatchFromWatchClient(watch, c)}
	c.Cluster = clientv3.NewClusterFromClusterClient(pb.NewClusterClient(rest), c)
	c.Auth = clientv3.NewAuthFromAuthClient(pb.NewAuthClient(rest), c)
	c.Maintenance = clientv3.NewMaintenanceFromMaintenanceClient(pb.NewMaintenanceClient(rest), c)
	return c
}

// Client returns the client of a recipe in this process, the same one at every
// call. It has no connection and no endpoints; closing it ends its watches and
// renewals, and so does Close.
func (s *Space) Client() *clientv3.Client { return s.client }

// Refusals returns how many requests of each kind were refused since New. Kinds
// without a refusal are left out.
func (s *Space) Refusals() map[string]uint64 { return s.refusals.counts() }

// Close ends the client and the streams of other processes, and waits for them.
// It leaves the leases that the recipe granted: what is not renewed ends by
// itself. It is idempotent.
func (s *Space) Close() error {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	err := s.client.Close()
	s.relays.Wait()
	if errors.Is(err, context.Canceled) { // what a client without a connection always answers
		return nil
	}
	return err
}
