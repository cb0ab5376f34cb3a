package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
)

const (
	defaultSessions = 100_000
	// callBudget bounds one request to etcd. A leader's election takes about a
	// second and a half.
	callBudget = 5 * time.Second
)

// A Config says what a service stands on. Client and Log are required.
type Config struct {
	// Client is the host's own, with the right to every key and lease.
	Client *clientv3.Client
	// Log is the host's logger.
	Log *slog.Logger
	// Host is the host's name, in records and messages.
	Host string
	// Sessions bounds the live sessions that were opened at this host. Zero:
	// 100,000.
	Sessions int
	// Released is told of each session that fast release ended. It must not block.
	Released func(Release)
}

// A Release is a session that ended because its process died.
type Release struct {
	ID        string    // the session
	Namespace string    // its namespace
	Owner     string    // its label
	At        time.Time // when its lease was revoked
}

// Service is a host's SessionService. It is safe for concurrent use. Make it with
// [New], and end it with Stop.
type Service struct {
	sessionv1.UnimplementedSessionServiceServer
	cfg    Config
	client *clientv3.Client
	log    *slog.Logger
	view   *view

	life context.Context // ends with Stop
	end  context.CancelCauseFunc
	work sync.WaitGroup

	stopping atomic.Bool

	mu   sync.Mutex
	mine map[uuid.UUID]struct{} // live sessions that were opened here, and reservations
}

// errClosed is the cause with which what a service runs ends.
var errClosed = errors.New("the host is stopping")

// New returns a service that follows the sessions of etcd. It does no I/O itself
// and serves at once; what it does not know yet it reads.
func New(cfg Config) *Service {
	if cfg.Sessions <= 0 {
		cfg.Sessions = defaultSessions
	}
	if cfg.Released == nil {
		cfg.Released = func(Release) {}
	}
	s := &Service{cfg: cfg, client: cfg.Client, log: cfg.Log, mine: make(map[uuid.UUID]struct{})}
	s.life, s.end = context.WithCancelCause(context.Background())
	s.view = newView(cfg.Client, cfg.Log, s.changed)
	s.work.Go(func() { s.view.follow(s.life) })
	return s
}

// Stop ends what the service runs, and waits for it or for ctx. It ends no
// session. Call it after the servers that reach it have stopped.
func (s *Service) Stop(ctx context.Context) error {
	s.end(errClosed)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.work.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sessions: %w", context.Cause(ctx))
	}
}

// Len returns how many live sessions the cluster has, as far as the host knows.
func (s *Service) Len() int { return s.view.size() }

// changed hears of every change that the watch brings.
func (s *Service) changed(id uuid.UUID, after *state) {
	if after == nil {
		s.forget(id)
	}
}

// reserve makes place for one more session, or says that there is none.
func (s *Service) reserve(id uuid.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.mine) >= s.cfg.Sessions {
		return false
	}
	s.mine[id] = struct{}{}
	return true
}

func (s *Service) forget(id uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mine, id)
}

// Stopping says that the host is about to stop: from here on no connection's end
// releases a session. Call it before anything of the API is closed.
func (s *Service) Stopping() { s.stopping.Store(true) }
