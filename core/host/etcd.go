package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/logbridge"
	"github.com/conclavehq/conclave/internal/scope"
)

const (
	dialTimeout      = 5 * time.Second
	keepAlive        = 10 * time.Second
	keepAliveTimeout = 3 * time.Second
	// redial is the longest pause between two tries of a connection. gRPC's own, two
	// minutes, outlasts the sessions that are renewed over it.
	redial = time.Second
	// startLook is how long one look at an external etcd takes while a start waits.
	startLook = 5 * time.Second
)

// ErrNoEtcd says that an external etcd does not answer.
var ErrNoEtcd = errors.New("etcd does not answer")

// A store is the etcd that the host stands on.
type store struct {
	client    *clientv3.Client // the host's own, without a guard
	backend   scope.Backend    // what recipes reach through theirs
	endpoints []string
	member    *embedded.Member // nil for an external etcd
}

func openStore(ctx context.Context, cfg Config, log *slog.Logger, onFatal func(string)) (*store, error) {
	if cfg.Etcd.Mode == External {
		return openExternal(ctx, cfg, log)
	}
	return openEmbedded(ctx, cfg, log, onFatal)
}

func openEmbedded(ctx context.Context, cfg Config, log *slog.Logger, onFatal func(string)) (*store, error) {
	password, err := cfg.Etcd.password()
	if err != nil {
		return nil, err
	}
	if f := cfg.Etcd.file; f != nil {
		f.Username, f.Password, f.Logger, f.OnFatal = cfg.Etcd.User, password, log.With("from", "etcd"), onFatal
		return startStore(ctx, cfg, *f, log)
	}
	return startStore(ctx, cfg, embedded.Config{
		Name: cfg.Name, DataDir: cfg.DataDir, ClientAddr: cfg.Etcd.ListenClient, PeerAddr: cfg.Etcd.listenPeer(cfg.Name),
		AdvertiseClient: cfg.Etcd.AdvertiseClient, AdvertisePeer: cfg.Etcd.advertisedPeer(cfg.Name),
		InitialCluster: cfg.Etcd.InitialCluster, InitialToken: cfg.Etcd.InitialClusterToken, Fast: cfg.Etcd.Fast, NoFsync: cfg.Etcd.NoFsync, QuotaBytes: cfg.Etcd.QuotaBytes,
		ClientTLS: cfg.Etcd.ClientTLS.member(), PeerTLS: cfg.Etcd.PeerTLS.member(), TLSMinVersion: firstOf(cfg.Etcd.ClientTLS.MinVersion, cfg.Etcd.PeerTLS.MinVersion),
		Username: cfg.Etcd.User, Password: password,
		Logger: log.With("from", "etcd"), OnFatal: onFatal,
	}, log)
}

func startStore(ctx context.Context, cfg Config, member embedded.Config, log *slog.Logger) (*store, error) {
	m, err := startMember(ctx, cfg, member, log)
	if err != nil {
		return nil, err
	}
	d := m.Direct()
	return &store{client: m.DirectClient(), backend: scope.Backend{KV: d.KV, Watch: d.Watch, Lease: d.Lease},
		endpoints: m.Endpoints(), member: m}, nil
}

func openExternal(ctx context.Context, cfg Config, log *slog.Logger) (*store, error) {
	secret, err := cfg.Etcd.TLS.client(log)
	if err != nil {
		return nil, err
	}
	password, err := cfg.Etcd.password()
	if err != nil {
		return nil, err
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: cfg.Etcd.Endpoints, Username: cfg.Etcd.User, Password: password, TLS: secret,
		DialTimeout: dialTimeout, DialKeepAliveTime: keepAlive, DialKeepAliveTimeout: keepAliveTimeout,
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redial},
			MinConnectTimeout: dialTimeout,
		})},
		Logger: zap.New(logbridge.Zap(log.With("from", "etcd"), zapcore.WarnLevel)),
	})
	if err != nil {
		return nil, fmt.Errorf("etcd at %v: %w", cfg.Etcd.Endpoints, err)
	}
	if err := awaitEtcd(ctx, c, log); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %v: %w", ErrNoEtcd, cfg.Etcd.Endpoints, err), c.Close())
	}
	return &store{client: c, backend: scope.FromClient(c), endpoints: cfg.Etcd.Endpoints}, nil
}

// awaitLeader returns nil when the embedded member knows a leader, or an error of
// the API that says that nothing was written. Of an external etcd nothing is known
// before it is asked.
func (s *store) awaitLeader(ctx context.Context) error {
	if s.member == nil {
		return nil
	}
	err := s.member.AwaitLeader(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	return recipe.Errorf(codes.Unavailable, recipe.ReasonNoQuorum, "the cluster has no leader; nothing was written")
}

// awaitEtcd waits until etcd answers, and says in the log what it waits for.
func awaitEtcd(ctx context.Context, c *clientv3.Client, log *slog.Logger) error {
	for {
		look, cancel := context.WithTimeout(ctx, startLook)
		_, err := c.Get(look, "conclave")
		silent := look.Err() != nil
		cancel()
		switch {
		case err == nil || answered(err):
			return nil
		case ctx.Err() != nil || !silent:
			return err
		}
		log.Warn("waiting for etcd, which does not answer", "endpoints", c.Endpoints(), "error", err)
	}
}

// answered tells a refusal from silence: an etcd that wants a login serves.
func answered(err error) bool {
	e, ok := errors.AsType[rpctypes.EtcdError](err)
	return ok && e.Code() != codes.Unavailable && e.Code() != codes.DeadlineExceeded
}

// ended is closed when the embedded member has ended by itself; nil for an
// external etcd, which is somebody else's.
func (s *store) ended() <-chan struct{} {
	if s.member == nil {
		return nil
	}
	return s.member.Done()
}

// handOver has another member lead, if the embedded one does and another can.
func (s *store) handOver(ctx context.Context) {
	if s.member != nil {
		s.member.HandOver(ctx)
	}
}

// close ends the embedded member and waits for it, however long that takes on a
// busy machine: a host that has ended holds neither the data directory nor a port.
func (s *store) close() error {
	err := s.client.Close()
	if s.member == nil {
		return err
	}
	select {
	case <-s.member.Done():
		return nil // it has ended by itself, and why is known already
	default:
	}
	return s.member.Close() // upstream's close of a client without a connection only says that its context has ended
}
