package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/ownership"
)

// A SessionState says how much a session can be relied on.
type SessionState int

// The states of a session. It goes from Active to Suspect and back any number
// of times, and to Expired once.
const (
	// Active: a renewal was acknowledged within the last half of the TTL.
	Active SessionState = iota
	// Suspect: none was, but what is owned is still owned.
	Suspect
	// Expired: the session ended, by loss or by Close.
	Expired
)

// String returns the state's name in lower case.
func (s SessionState) String() string {
	switch s {
	case Active:
		return "active"
	case Suspect:
		return "suspect"
	default:
		return "expired"
	}
}

// A Session is a lease kept alive: by itself, or, if a [Lender] made it, by the
// lease's owner. It is safe for concurrent use.
type Session struct {
	client    *clientv3.Client
	lease     clientv3.LeaseID
	ttl       time.Duration
	margin    time.Duration
	owner     string
	namespace string
	log       *slog.Logger
	engine    *engine.Engine
	ctx       *ownership.Context
	lender    *Lender // of a borrowed session, which neither renews nor revokes

	mu    sync.Mutex
	acked clock.Stamp // when the last acknowledged renewal was sent
	beat  func(remaining time.Duration)
	// Of OnClose: who waits, and whether Close has begun.
	onClose []func()
	left    bool

	telling sync.Once

	stopRenewing context.CancelFunc
	renewing     chan struct{} // closed when the renewal loop has ended
	end          sync.Once
	closed       chan struct{} // closed when Close or Orphan has done its work
	closeErr     error
}

// NewSession grants a lease, or resumes one, and keeps it alive until Close,
// Orphan or loss. The ctx bounds the call only.
//
// It returns [ErrInvalid] for a TTL, owner or namespace outside its limits,
// [ErrSessionExpired] if the lease to resume is gone, and etcd's error if the
// lease could not be granted; a lease whose grant was not acknowledged ends by
// itself after the TTL.
func NewSession(ctx context.Context, c *clientv3.Client, opts ...SessionOption) (*Session, error) {
	o, err := newOptions(opts)
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	s := &Session{client: c, owner: o.owner, namespace: o.namespace, log: o.log,
		renewing: make(chan struct{}), closed: make(chan struct{})}
	if o.lease != 0 {
		err = s.resume(ctx, o)
	} else {
		err = s.grant(ctx, o)
	}
	if err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	s.margin = max(s.ttl/10, time.Second)
	s.ctx = ownership.NewContext(ctx, s.lapsed)
	s.engine = engine.New(engine.Config{Client: c, Lease: s.lease, TTL: s.ttl, Log: s.log, Session: s.ctx.Inner(),
		Gone: func() { s.ctx.End(ErrSessionExpired) }})
	renewCtx, stop := context.WithCancel(context.Background())
	s.stopRenewing = stop
	go s.renew(renewCtx)
	return s, nil
}

func (s *Session) grant(ctx context.Context, o options) error {
	if o.ttl < minTTLMany { // else it does not matter how many members there are
		if err := checkTTL(o.ttl, floor(ctx, s.client)); err != nil {
			return err
		}
	}
	sent := clock.Now()
	resp, err := s.client.Grant(ctx, int64(o.ttl/time.Second))
	if err != nil {
		return fmt.Errorf("grant a lease: %w", err)
	}
	s.lease, s.ttl, s.acked = resp.ID, o.ttl, sent
	if granted := time.Duration(resp.TTL) * time.Second; granted != o.ttl {
		_, err := s.client.Revoke(ctx, resp.ID)
		return errors.Join(fmt.Errorf("%w: ttl: etcd grants %v where %v was asked for", ErrInvalid, granted, o.ttl), err)
	}
	return nil
}

func (s *Session) resume(ctx context.Context, o options) error {
	sent := clock.Now()
	seconds, err := engine.Renew(ctx, s.client, o.lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return fmt.Errorf("resume lease %x: %w", o.lease, ErrSessionExpired)
	}
	if err != nil {
		return fmt.Errorf("resume lease %x: %w", o.lease, err)
	}
	s.lease, s.ttl, s.acked = o.lease, time.Duration(seconds)*time.Second, sent
	if o.ttlSet && o.ttl != s.ttl {
		return fmt.Errorf("%w: ttl: the lease to resume has %v, not %v", ErrInvalid, s.ttl, o.ttl)
	}
	return nil
}

// floor returns the least TTL for the cluster behind c. If the members cannot
// be listed, the client's endpoints are counted.
func floor(ctx context.Context, c *clientv3.Client) time.Duration {
	voters := len(c.Endpoints())
	if resp, err := c.MemberList(ctx); err == nil {
		voters = 0
		for _, m := range resp.Members {
			if !m.IsLearner {
				voters++
			}
		}
	}
	if voters > 1 {
		return minTTLMany
	}
	return minTTLOne
}

// Client returns the etcd client that the session was opened with.
func (s *Session) Client() *clientv3.Client { return s.client }

// Lease returns the lease. Keys attached to it go when the session ends.
func (s *Session) Lease() clientv3.LeaseID { return s.lease }

// Owner returns the owner's name.
func (s *Session) Owner() string { return s.owner }

// Namespace returns the namespace of the keys that recipes write.
func (s *Session) Namespace() string { return s.namespace }

// TTL returns the time that etcd keeps the session's keys without a renewal.
func (s *Session) TTL() time.Duration { return s.ttl }

// Context ends when the session does, at the latest when etcd could give what
// it owns to another. context.Cause is [ErrSessionExpired] or [ErrSessionClosed].
func (s *Session) Context() context.Context { return s.ctx }

// Engine is for Conclave's own recipes; its type is internal.
func (s *Session) Engine() *engine.Engine { return s.engine }

// State returns the present state.
func (s *Session) State() SessionState {
	if s.ctx.Err() != nil {
		return Expired
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lender == nil && clock.Since(s.acked) > s.ttl/2 {
		return Suspect
	}
	return Active
}

// Remaining returns how long the session is valid without a further
// acknowledged renewal; zero or less once it has expired. Of a borrowed session
// nobody knows here: it is the TTL until the session ends.
func (s *Session) Remaining() time.Duration {
	if s.ctx.Err() != nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.remaining()
}

// remaining is called with the lock held.
func (s *Session) remaining() time.Duration {
	if s.lender != nil {
		return s.ttl
	}
	return s.ttl - s.margin - clock.Since(s.acked)
}

// lapsed is the session context's look at the clock.
func (s *Session) lapsed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if clock.Since(s.acked) >= s.ttl-s.margin {
		return ErrSessionExpired
	}
	return nil
}
