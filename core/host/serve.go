package host

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/conclavehq/conclave/core/host/session"
	"github.com/conclavehq/conclave/core/host/split"
	"github.com/conclavehq/conclave/internal/router"
)

// What one connection and one request may take.
const (
	headerTimeout  = 5 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeader      = 64 << 10
	streamsPerConn = 10_000 // calls that wait for a lock hold one each
	pingLeast      = 5 * time.Second
	// A client of another machine that vanished without a word is found after these.
	pingAfter   = 30 * time.Second
	pingTimeout = 10 * time.Second

	// cutBudget is for servers to end whose connections were closed.
	cutBudget = 300 * time.Millisecond
)

// servers answer on the API's listeners.
type servers struct {
	grpc    *grpc.Server
	http    *http.Server
	splits  []*split.Splitter
	running sync.WaitGroup
	failed  chan error // the first server that ended by itself
}

func newServers(r *router.Router, h http.Handler, log *slog.Logger) *servers {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &servers{
		failed: make(chan error, 1),
		grpc: grpc.NewServer(append(r.ServerOptions(),
			grpc.Creds(split.Credentials()),
			grpc.MaxConcurrentStreams(streamsPerConn),
			grpc.MaxHeaderListSize(maxHeader),
			grpc.ConnectionTimeout(headerTimeout),
			grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingAfter, Timeout: pingTimeout}),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingLeast, PermitWithoutStream: true}),
		)...),
		http: &http.Server{
			Handler: h, Protocols: protocols, ConnContext: session.ConnContext,
			ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
			HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: streamsPerConn, SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
}

// serve answers on l from now on.
func (s *servers) serve(l net.Listener, o split.Options) {
	both := split.New(session.Listen(l), o)
	s.splits = append(s.splits, both)
	for _, run := range []func() error{
		func() error { return s.grpc.Serve(both.GRPC()) },
		func() error { return s.http.Serve(both.HTTP()) },
	} {
		s.running.Go(func() {
			if err := run(); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, grpc.ErrServerStopped) && !errors.Is(err, net.ErrClosed) {
				select {
				case s.failed <- err:
				default: // one reason is enough
				}
			}
		})
	}
}

// closeListeners refuses new connections.
func (s *servers) closeListeners() error {
	var err error
	for _, both := range s.splits {
		err = errors.Join(err, both.Close())
	}
	return err
}

// drain lets calls end until ctx does, and then ends those that are left: end is
// called halfway, and lets them end with a status of their own.
func (s *servers) drain(ctx context.Context, patience time.Duration, end func(ctx context.Context) error) error {
	var drained sync.WaitGroup
	drained.Go(s.grpc.GracefulStop)
	drained.Go(func() { _ = s.http.Shutdown(ctx) }) // Close below ends what it leaves
	done := make(chan struct{})
	go func() {
		drained.Wait()
		close(done)
	}()
	halfway := time.NewTimer(patience)
	defer halfway.Stop()
	select {
	case <-done:
	case <-halfway.C:
	case <-ctx.Done():
	}
	err := end(ctx)
	select {
	case <-done:
	case <-ctx.Done():
	}
	return errors.Join(err, s.http.Close(), s.cut(done))
}

// errHandlers says that calls go on although nobody hears their answers.
var errHandlers = errors.New("calls did not end when their connections did")

// cut closes what drain has left open, and waits for the servers. gRPC's waits for
// its handlers, and lets nobody else in meanwhile: one that heeds no context must
// not keep the host from stopping, so that wait is a short one.
func (s *servers) cut(drained <-chan struct{}) error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.grpc.Stop()
		s.running.Wait()
		<-drained
	}()
	limit := time.NewTimer(cutBudget)
	defer limit.Stop()
	select {
	case <-ended:
		return nil
	case <-limit.C:
		return errHandlers
	}
}
