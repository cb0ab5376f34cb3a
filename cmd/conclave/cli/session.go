package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/cmd/conclave/internal/remote"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
)

// opening bounds how long a session may take to open: etcd itself answers within
// seven seconds that it has no leader.
const opening = 10 * time.Second

// A session is what a command owns under: one of the library's, straight on etcd,
// or one at a host.
type session interface {
	ID() string
	Owner() string
	// Remaining is how long the session is valid without a further renewal.
	Remaining() time.Duration
	// lock acquires name in the mode that the flags say.
	lock(ctx context.Context, name string, f lockFlags) (*owned, error)
	// campaign waits until the election name is won.
	campaign(ctx context.Context, name string, f electionFlags) (*owned, error)
	// hold closes the barrier name.
	hold(ctx context.Context, name string, f holding) (*owned, error)
	// releaseHold releases a persistent hold, whoever has it.
	releaseHold(ctx context.Context, name string, token int64) error
	// enter waits until all parties of the double barrier name are there.
	enter(ctx context.Context, name string, f entering) (*owned, error)
	// close lets go of everything, and of the connection.
	close()
}

// An owned name, of whatever kind.
type owned struct {
	context context.Context
	token   core.Token
	release func() error
	leave   func(ctx context.Context) error // waits for the others, before the release; optional
	env     []string                        // more for a command's environment
}

// openSession opens a session where the target says.
func (a *app) openSession(ctx context.Context, t target, ttl time.Duration) (session, error) {
	if t.direct() {
		return a.openAtEtcd(ctx, t, ttl)
	}
	c, err := a.host(t)
	if err != nil {
		return nil, err
	}
	open, cancel := context.WithTimeoutCause(ctx, opening, errNoAnswer)
	defer cancel()
	s, err := c.Open(open, remote.SessionConfig{TTL: ttl, Owner: ownerName(), Namespace: a.namespace(t)})
	if err != nil {
		return nil, errors.Join(explain(open, t, err), c.Close())
	}
	return &hostSession{Session: s, client: c}, nil
}

func (a *app) openAtEtcd(ctx context.Context, t target, ttl time.Duration) (session, error) {
	c, err := a.dial(ctx, t)
	if err != nil {
		return nil, err
	}
	open, cancel := context.WithTimeout(ctx, opening)
	defer cancel()
	s, err := core.NewSession(open, c, core.WithTTL(ttl), core.WithNamespace(a.namespace(t)))
	if err != nil {
		if open.Err() != nil && ctx.Err() == nil {
			err = unavailable(t, err)
		}
		return nil, errors.Join(err, c.Close())
	}
	return &etcdSession{s}, nil
}

// ownerName is the label of what a command owns: who reads it wants to find the process.
func ownerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%.200s-%d", host, os.Getpid())
}

// An etcdSession is one of the library's.
type etcdSession struct{ *core.Session }

// ID is the lease, as etcd's own tools write it.
func (s *etcdSession) ID() string { return strconv.FormatInt(int64(s.Lease()), 16) }

func (s *etcdSession) close() {
	// What could not be told to etcd ends with the lease.
	_ = s.Session.Close()
	_ = s.Client().Close()
}

func (s *etcdSession) lock(ctx context.Context, name string, f lockFlags) (*owned, error) {
	ctx, cancel := f.waiting(ctx, 0)
	defer cancel()
	opts := []lock.Option{lock.WithPurpose(f.purpose), lock.WithGrace(f.forcedGrace())}
	if f.slots > 0 {
		sem := lock.NewSemaphore(s.Session, name, f.slots, opts...)
		acquire := sem.Acquire
		if f.tries() {
			acquire = sem.TryAcquire
		}
		p, err := acquire(ctx, 1)
		if err != nil {
			return nil, f.notAcquired(ctx, name, err)
		}
		return &owned{context: p.Context(), token: p.Token(), release: p.Release}, nil
	}
	m := lock.NewRWMutex(s.Session, name, opts...)
	acquire := m.Lock
	switch {
	case f.shared && f.tries():
		acquire = m.TryRLock
	case f.shared:
		acquire = m.RLock
	case f.tries():
		acquire = m.TryLock
	}
	h, err := acquire(ctx)
	if err != nil {
		return nil, f.notAcquired(ctx, name, err)
	}
	return &owned{context: h.Context(), token: h.Token(), release: h.Unlock}, nil
}

// A hostSession is one at a host.
type hostSession struct {
	*remote.Session
	client *remote.Client
}

func (s *hostSession) close() {
	// What no host could be told ends after the TTL.
	ctx, cancel := context.WithTimeout(context.Background(), releasing)
	defer cancel()
	_ = s.Close(ctx)
	_ = s.client.Close()
}

func (s *hostSession) lock(ctx context.Context, name string, f lockFlags) (*owned, error) {
	req := &lockv1.AcquireRequest{Name: name, Mode: "write", Purpose: f.purpose, Grace: durationpb.New(f.forcedGrace())}
	switch {
	case f.slots > 0:
		req.Mode, req.Permits, req.Limit = "permits", 1, int32(f.slots) //nolint:gosec // at most a million
	case f.shared:
		req.Mode = "read"
	}
	if f.tries() {
		req.Wait = durationpb.New(0)
	} else if f.wait.set {
		req.Wait = durationpb.New(f.wait.value)
	}
	ctx, cancel := f.waiting(ctx, answering)
	defer cancel()
	h, err := s.Acquire(ctx, req)
	if err != nil {
		return nil, f.notAcquired(ctx, name, err)
	}
	return ownedAtHost(h), nil
}

func (s *hostSession) campaign(ctx context.Context, name string, f electionFlags) (*owned, error) {
	h, err := s.Campaign(ctx, &electionv1.CampaignRequest{
		Name: name, Value: f.value, Priority: int32(f.priority), Grace: durationpb.New(f.forcedGrace()), //nolint:gosec // within int8
		Zone: f.zone, PreferredZones: f.preferred,
	})
	if err != nil {
		return nil, err
	}
	return ownedAtHost(h), nil
}

func ownedAtHost(h *remote.Held) *owned {
	return &owned{context: h.Context(), token: h.Token(), release: func() error {
		ctx, cancel := context.WithTimeout(context.Background(), releasing)
		defer cancel()
		err := h.Release(ctx)
		if recipe.Reason(err) == "outcome_unknown" {
			return fmt.Errorf("%w: %w", core.ErrUnknownOutcome, err)
		}
		return err
	}}
}
