package embedded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
)

const (
	// gRPC raises a shorter interval to 10 s; the server tolerates 5 s and answers more often with too_many_pings.
	clientKeepAlive        = 10 * time.Second
	clientKeepAliveTimeout = 3 * time.Second
	clientDialTimeout      = 5 * time.Second
)

// Member is a running etcd member. Its methods may be called from any goroutine.
type Member struct {
	cfg     Config // with final addresses
	server  *server
	login   *login
	watches *watches
	client  *clientv3.Client
	dir     *dirLock

	stopOnce sync.Once
	stopping chan struct{}
	done     chan struct{}

	err error // written before done closes
}

// Start runs a member and returns when it serves: a majority of its cluster is there, it has a vote, and a read has been answered.
//
// The context bounds the start only. When it ends first, the member is stopped, its files are closed, and the error wraps
// ErrNoQuorum and the context's cause. Other errors come at once: ErrDataDirInUse, ErrPortInUse, ErrCorrupt, ErrConfig, ErrRemoved, ErrMemberExists. After an
// error nothing of the member is left running, with one exception: damage that only etcd itself finds while it opens its
// files may leave its goroutine and ports behind, so that a process which gets ErrCorrupt should end.
func Start(ctx context.Context, cfg Config) (*Member, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	dir, err := lockDir(ctx, cfg.DataDir)
	if err != nil {
		return nil, err
	}
	m, err := start(ctx, cfg, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start etcd member %q: %w", cfg.Name, err), dir.release())
	}
	return m, nil
}

func start(ctx context.Context, cfg Config, dir *dirLock) (*Member, error) {
	if err := preflight(cfg.DataDir); err != nil {
		return nil, err
	}
	srv, cfg, err := launch(cfg)
	if err != nil {
		return nil, err
	}
	m := &Member{cfg: cfg, server: srv, dir: dir, stopping: make(chan struct{}), done: make(chan struct{})}
	m.login = newLogin(m)
	m.watches = newWatches(srv.etcd.Server, m.login)
	if err := m.await(ctx); err != nil {
		m.close()
		return nil, err
	}
	go m.supervise()
	return m, nil
}

// await returns when the member serves.
func (m *Member) await(ctx context.Context) error {
	if err := m.server.ready(ctx); err != nil {
		return err
	}
	if err := m.vote(ctx); err != nil {
		return err
	}
	client, err := m.dial(ctx)
	if err != nil {
		return err
	}
	m.client = client
	if _, err := client.Get(ctx, "conclave"); err != nil && !answered(err) {
		return noQuorum(ctx, err)
	}
	return nil
}

// dial makes the member's own client. With a login it asks for a token at once, for which it waits as long as ctx lets it.
func (m *Member) dial(ctx context.Context) (*clientv3.Client, error) {
	secret, err := m.loopbackTLS()
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	var opts []grpc.DialOption
	if secret != nil {
		opts = append(opts, grpc.WithTransportCredentials(secret))
	}
	for {
		c, err := clientv3.New(clientv3.Config{
			Endpoints: m.Endpoints(), DialOptions: opts, Username: m.cfg.Username, Password: m.cfg.Password,
			DialTimeout:          clientDialTimeout,
			DialKeepAliveTime:    clientKeepAlive,
			DialKeepAliveTimeout: clientKeepAliveTimeout,
			// What fails for good is returned; the rest are calls that it makes again, such as for a token while authentication is off.
			Logger: zap.NewNop(),
		})
		switch {
		case err == nil:
			return c, nil
		case m.cfg.Username == "" || answered(err):
			return nil, fmt.Errorf("client: %w", err)
		case ctx.Err() != nil:
			return nil, noQuorum(ctx, err)
		}
	}
}

// answered tells a refusal from silence: a member that wants a login serves.
func answered(err error) bool {
	var e rpctypes.EtcdError
	if !errors.As(err, &e) {
		return false
	}
	return e.Code() != codes.Unavailable && e.Code() != codes.DeadlineExceeded
}

func noQuorum(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return fmt.Errorf("%w: the member does not serve yet: %w", ErrNoQuorum, err)
}

// supervise owns the running member: it waits for its end, by request or by itself, and clears up.
func (m *Member) supervise() {
	defer close(m.done)
	ended, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		m.server.writes.watch(m.server.etcd.Server.LeaderChangedNotify, ended)
	}()
	defer func() {
		close(ended)
		<-watched
	}()
	var cause error
	select {
	case <-m.stopping:
	case err := <-m.server.etcd.Err():
		cause = m.server.stopped(err)
	case <-m.server.etcd.Server.StopNotify():
		cause = m.server.stopped(nil)
	}
	m.close()
	m.err = errors.Join(cause, m.dir.release())
}

func (m *Member) close() {
	m.watches.stop()
	if m.client != nil {
		// An error here says only that the connection was closed already.
		_ = m.client.Close()
	}
	m.server.stop()
}

// Client returns the member's own client, over loopback. It ends with the member; closing it earlier hurts its other users.
func (m *Member) Client() *clientv3.Client { return m.client }

// Endpoints returns the client URL, for clients in this process or on this machine.
func (m *Member) Endpoints() []string { return []string{m.scheme() + dialAddr(m.cfg.ClientAddr)} }

func (m *Member) scheme() string {
	if u := m.server.config.ListenClientUrls; len(u) > 0 {
		return u[0].Scheme + "://"
	}
	return "http://"
}

// PeerURL returns the URL under which other members reach this one.
func (m *Member) PeerURL() string { return m.server.config.AdvertisePeerUrls[0].String() }

// DataDir returns the member's data directory.
func (m *Member) DataDir() string { return m.cfg.DataDir }

// Done is closed when the member has ended and its data and ports are closed, whatever ended it.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err returns nil while the member runs and after a stop that was asked for; otherwise what ended it, wrapping ErrStopped.
// It keeps its answer.
func (m *Member) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

// Stop ends the member and waits for its end, or for ctx: the stop then goes on in the background, and Done tells its end. A leader hands
// its leadership over first, if another member can take it within half a second. It ends within two seconds, with and without a quorum. A client's
// connection over which nothing was ever sent, and a goroutine that reads it, stay until that client goes.
// Later calls only wait. The error is Err's, or the context's cause.
func (m *Member) Stop(ctx context.Context) error {
	m.stopOnce.Do(func() { close(m.stopping) })
	select {
	case <-m.done:
		return m.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close is Stop without a deadline of its own.
func (m *Member) Close() error { return m.Stop(context.Background()) }
