package coretest

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/conclavehq/conclave/core/embedded"
)

// patience bounds every wait of this package on a member that runs in the same process. It is not an expectation: a test that
// reaches it fails.
const patience = 30 * time.Second

// Etcd is a real etcd member in the test process.
type Etcd struct {
	member *embedded.Member
	client *clientv3.Client
	names  atomic.Int64
}

// Option changes how a member is started.
type Option func(*settings)

type settings struct {
	config   embedded.Config
	children map[string]func() int
}

func newSettings(opts []Option) settings {
	s := settings{config: embedded.Config{
		Name: "coretest", ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Fast: true, NoFsync: true,
		Tune: func(e *embed.Config) { e.BcryptCost = 4 }, // the least: under the race detector a login would take a second
	}}
	for _, o := range opts {
		o(&s)
	}
	return s
}

// WithFsync makes the member wait for the disk, as in production. Without it, writes are some ten times faster.
func WithFsync() Option { return func(s *settings) { s.config.NoFsync = false } }

// WithConfig lets f change the member's whole configuration, after the kit's defaults and earlier options. The data directory is
// still the kit's.
func WithConfig(f func(*embedded.Config)) Option { return func(s *settings) { f(&s.config) } }

// StartEtcd starts a member for this test alone: free loopback ports, fast ticks, data in tb.TempDir, no fsync, logins that cost
// little. It ends with the test, after the clients that [Etcd.Client] made.
func StartEtcd(tb testing.TB, opts ...Option) *Etcd {
	tb.Helper()
	e, err := startEtcd(newSettings(opts).config, tb.TempDir())
	if err != nil {
		tb.Fatalf("coretest: %v", err)
	}
	tb.Cleanup(func() {
		if err := e.member.Close(); err != nil {
			tb.Errorf("coretest: %v", err)
		}
	})
	return e
}

func startEtcd(cfg embedded.Config, dir string) (*Etcd, error) {
	cfg.DataDir = dir
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	m, err := embedded.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return &Etcd{member: m, client: m.Client()}, nil
}

// Member returns the member itself, for tests that stop it.
func (e *Etcd) Member() *embedded.Member { return e.member }

// Endpoint returns the member's client URL.
func (e *Etcd) Endpoint() string { return e.member.Endpoints()[0] }

// Client returns a new client with a connection of its own, closed when the test ends. Dial options come after the kit's.
func (e *Etcd) Client(tb testing.TB, opts ...grpc.DialOption) *clientv3.Client {
	tb.Helper()
	return Dial(tb, e.Endpoint(), opts...)
}

// Dial returns a new client of the etcd at endpoint, for instance a [Link]'s. It reconnects within a fraction of a second after a
// fault, logs nothing, and is closed when the test ends.
func Dial(tb testing.TB, endpoint string, opts ...grpc.DialOption) *clientv3.Client {
	tb.Helper()
	quick := grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 200 * time.Millisecond},
		MinConnectTimeout: time.Second,
	})
	c, err := clientv3.New(clientv3.Config{
		Endpoints:   []string{endpoint},
		DialOptions: append([]grpc.DialOption{quick}, opts...),
		Logger:      zap.NewNop(),
	})
	if err != nil {
		tb.Fatalf("coretest: dial %s: %v", endpoint, err)
	}
	tb.Cleanup(func() {
		// A test may close its client itself; closing it again says so, which is no fault.
		_ = c.Close()
	})
	return c
}

// Prefix returns a name that no other call returned, for a test to keep its keys under, with no delimiter at its end. No such name is a
// prefix of another, and it stays unique when tests are repeated with -count.
func (e *Etcd) Prefix(tb testing.TB) string {
	return strconv.FormatInt(e.names.Add(1), 10) + "-" + tb.Name()
}

// Revision returns the store's current revision. Every transaction that changes something adds one to it.
func (e *Etcd) Revision(tb testing.TB) int64 {
	tb.Helper()
	ctx, cancel := wait()
	defer cancel()
	got, err := e.client.Get(ctx, "coretest", clientv3.WithCountOnly())
	if err != nil {
		tb.Fatalf("coretest: read revision: %v", err)
	}
	return got.Header.Revision
}

// RaftIndex returns how many entries the raft log has committed. The difference around a piece of code is what that code cost the
// cluster; a single member adds no entries of its own while leases are kept alive, except that it records its version soon after the start.
func (e *Etcd) RaftIndex(tb testing.TB) uint64 {
	tb.Helper()
	ctx, cancel := wait()
	defer cancel()
	got, err := e.client.Status(ctx, e.Endpoint())
	if err != nil {
		tb.Fatalf("coretest: read raft index: %v", err)
	}
	return got.RaftIndex
}

// Dump returns every key under prefix with its value and revisions, in order of key.
func (e *Etcd) Dump(tb testing.TB, prefix string) []*mvccpb.KeyValue {
	tb.Helper()
	ctx, cancel := wait()
	defer cancel()
	got, err := e.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		tb.Fatalf("coretest: dump %q: %v", prefix, err)
	}
	return got.Kvs
}

// wait bounds one of the kit's own calls. It does not end with the test's context, so that Cleanup functions may use the kit.
func wait() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), patience)
}
