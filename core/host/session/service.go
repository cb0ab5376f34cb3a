package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
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

	life   context.Context // ends with Stop
	end    context.CancelCauseFunc
	active context.Context // ends with Stopping
	rest   context.CancelCauseFunc
	work   sync.WaitGroup

	mu      sync.Mutex
	ended   bool                   // work takes no more
	mine    map[uuid.UUID]struct{} // live sessions that were opened here, and reservations
	streams map[uuid.UUID]*keeper
	holds   map[uuid.UUID]*hold
	conns   map[*Conn]map[uuid.UUID]*hold
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
	s := &Service{cfg: cfg, client: cfg.Client, log: cfg.Log,
		mine: make(map[uuid.UUID]struct{}), streams: make(map[uuid.UUID]*keeper),
		holds: make(map[uuid.UUID]*hold), conns: make(map[*Conn]map[uuid.UUID]*hold)}
	s.life, s.end = context.WithCancelCause(context.Background())
	s.active, s.rest = context.WithCancelCause(s.life)
	s.view = newView(cfg.Client, cfg.Log, s.changed)
	s.start(func() { s.view.follow(s.life) })
	return s
}

// Stopping says that the host is about to stop: from here on no connection's end
// releases a session. Call it before anything of the API is closed.
func (s *Service) Stopping() { s.rest(errClosed) }

// Stop ends what the service runs, and waits for it or for ctx. It ends no
// session. Call it after the servers that reach it have stopped.
func (s *Service) Stop(ctx context.Context) error {
	s.end(errClosed)
	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
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

// start runs f on a goroutine that Stop waits for, unless Stop has begun.
func (s *Service) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.startLocked(f)
}

func (s *Service) startLocked(f func()) bool {
	if !s.ended {
		s.work.Go(f)
	}
	return !s.ended
}

// changed hears of every change that the watch brings.
func (s *Service) changed(id uuid.UUID, after *state) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.streams[id]
	switch {
	case after == nil:
		delete(s.mine, id)
		s.drop(id)
		if k != nil {
			k.cut(expired("the session has ended"))
		}
	case k != nil && k.hold != nil && after.rev > k.hold.rev:
		if after.Ending {
			k.cut(expired("the session has ended"))
		} else if after.Conn != k.hold.name {
			k.cut(replaced())
		}
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
