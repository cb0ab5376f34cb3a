package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/ownership"
)

// SessionConfig describes a session to open.
type SessionConfig struct {
	TTL       time.Duration
	Owner     string
	Namespace string
}

// A Session is kept alive by heartbeats from Open until Close or loss. It is safe
// for concurrent use.
type Session struct {
	client    *Client
	cfg       SessionConfig
	id        string
	heartbeat time.Duration
	ctx       *ownership.Context

	mu    sync.Mutex
	acked clock.Stamp   // when the last answered heartbeat was sent
	valid time.Duration // for how long from then on, margin taken off

	stop context.CancelFunc
	done chan struct{} // closed when nothing of the session runs any more
}

// Open opens a session. The ctx bounds the call only. A session whose opening was
// not acknowledged ends by itself after its TTL, and owns nothing.
func (c *Client) Open(ctx context.Context, cfg SessionConfig) (*Session, error) {
	var sent clock.Stamp
	var resp *sessionv1.OpenResponse
	err := c.Do(ctx, func(cc grpc.ClientConnInterface) (err error) {
		sent = clock.Now()
		resp, err = sessionv1.NewSessionServiceClient(cc).Open(ctx, &sessionv1.OpenRequest{
			Ttl: durationpb.New(cfg.TTL), Owner: cfg.Owner, Namespace: cfg.Namespace,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	cfg.TTL = resp.GetTtl().AsDuration()
	s := &Session{client: c, cfg: cfg, id: resp.GetSessionId(), heartbeat: resp.GetHeartbeat().AsDuration(),
		acked: sent, valid: withoutMargin(cfg.TTL), done: make(chan struct{})}
	if s.heartbeat <= 0 || s.heartbeat > cfg.TTL/3 {
		s.heartbeat = cfg.TTL / 3
	}
	s.ctx = ownership.NewContext(ctx, s.lapsed)
	keeping, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	go s.live(keeping)
	return s, nil
}

// withoutMargin takes off what the clocks of two machines may differ in rate, and
// what it takes to act on the end: as the library does.
func withoutMargin(ttl time.Duration) time.Duration { return ttl - max(ttl/10, time.Second) }

// ID returns the session's id.
func (s *Session) ID() string { return s.id }

// Owner returns the owner's label.
func (s *Session) Owner() string { return s.cfg.Owner }

// Namespace returns the namespace that the session is in.
func (s *Session) Namespace() string { return s.cfg.Namespace }

// Context ends when the session does, at the latest when what it owns could be
// given to another. Its cause is core.ErrSessionExpired or core.ErrSessionClosed.
func (s *Session) Context() context.Context { return s.ctx }

// Remaining returns how long the session is valid without a further answer; zero
// or less once it has ended.
func (s *Session) Remaining() time.Duration {
	if s.ctx.Err() != nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.valid - clock.Since(s.acked)
}

func (s *Session) lapsed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if clock.Since(s.acked) >= s.valid {
		return fmt.Errorf("no heartbeat was answered in time: %w", core.ErrSessionExpired)
	}
	return nil
}

// answered notes that a heartbeat sent at that time holds for ttl. An answer that
// comes late never shortens what an earlier one gave, and revives nothing.
func (s *Session) answered(sent clock.Stamp, ttl time.Duration) {
	valid := withoutMargin(ttl)
	s.mu.Lock()
	defer s.mu.Unlock()
	if valid-clock.Since(sent) > s.valid-clock.Since(s.acked) && clock.Since(s.acked) < s.valid {
		s.acked, s.valid = sent, valid
	}
}

// Close ends the session at a host and frees all that it owns. It is idempotent.
// The ctx bounds the asking, and so does the session's validity, after which it ends
// by itself.
func (s *Session) Close(ctx context.Context) error {
	left := s.Remaining()
	s.ctx.End(core.ErrSessionClosed)
	s.stop()
	<-s.done
	if left <= 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	return s.client.CloseSession(ctx, s.id, s.cfg.Namespace)
}

// CloseSession ends a session that may be another process's.
func (c *Client) CloseSession(ctx context.Context, id, namespace string) error {
	for {
		err := c.Do(ctx, func(cc grpc.ClientConnInterface) error {
			_, err := sessionv1.NewSessionServiceClient(cc).Close(ctx, &sessionv1.CloseRequest{SessionId: id, Namespace: namespace})
			return err
		})
		if !passes(err) || !pause(ctx, retryPause) {
			return err
		}
	}
}

// retryPause is how long to wait before hosts are asked again that were unavailable.
const retryPause = 200 * time.Millisecond

// passes reports whether an error may pass by itself: asking again is worth it.
func passes(err error) bool {
	if _, ok := errors.AsType[*UnreachableError](err); ok {
		return true
	}
	return status.Code(err) == codes.Unavailable || recipe.Reason(err) == "outcome_unknown" || starting(err)
}

// starting reports whether an error may be that of a host whose recipes are not
// there yet. It may as well be a host that has no such recipe.
func starting(err error) bool { return status.Code(err) == codes.Unimplemented }

// pause waits for d, or until ctx ends, and reports which.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
