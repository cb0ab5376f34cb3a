package core

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"
	"weak"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/ownership"
)

// A Lender makes sessions on leases that somebody else keeps alive: those of a
// host's callers. They share the lender's commits and watches, never a place in
// line. It is safe for concurrent use.
//
// It keeps a session only as long as somebody uses it, or something that the
// session owns or waits for is looked after here. A session that nobody uses
// has no goroutine and no timer, and goes with the next garbage collection.
type Lender struct {
	client *clientv3.Client
	shared *engine.Shared

	mu       sync.Mutex
	closed   bool
	sessions map[loanKey]weak.Pointer[Session]
	ending   sync.WaitGroup // of sessions whose lease is gone
}

// A Loan says whose lease a borrowed session is on.
type Loan struct {
	Lease     clientv3.LeaseID // granted and renewed by its owner
	TTL       time.Duration    // of the lease
	Owner     string           // names the owner in records and messages; at most 255 bytes of UTF-8
	Namespace string           // of the keys that recipes write
	Log       *slog.Logger     // nil: silent
}

// loanKey is what makes two loans the same.
type loanKey struct {
	lease            clientv3.LeaseID
	ttl              time.Duration
	owner, namespace string
}

// NewLender returns a lender on c. It does no I/O. Close ends it.
func NewLender(c *clientv3.Client) *Lender {
	return &Lender{client: c, shared: &engine.Shared{Committer: commit.New(commit.Config{KV: c})},
		sessions: make(map[loanKey]weak.Pointer[Session])}
}

// Session returns the session on a lease, the same one to all who ask while it
// is in use. It does no I/O: whether the lease stands is found out by the first
// request.
//
// A borrowed session never renews its lease and never revokes it. It does not
// compare the clock, since its owner's renewals happen elsewhere; it ends with
// [ErrSessionExpired] as soon as etcd says that the lease is gone. Close and
// Orphan end it here, for all who share it, and leave the lease alone: what the
// session owns and waits for stands, for a session of the same lease at another
// host to go on with. A lock delay is not available on it.
//
// It returns [ErrInvalid] for a loan without lease or TTL, or with an owner or
// namespace outside its limits, and [ErrSessionClosed] after Close.
func (l *Lender) Session(loan Loan) (*Session, error) {
	if err := loan.check(); err != nil {
		return nil, fmt.Errorf("session: %w", err)
	}
	key := loanKey{loan.Lease, loan.TTL, loan.Owner, loan.Namespace}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, fmt.Errorf("session: %w", ErrSessionClosed)
	}
	if s := l.sessions[key].Value(); s != nil && s.ctx.Inner().Err() == nil {
		return s, nil
	}
	s := l.borrow(loan, key)
	p := weak.Make(s)
	l.sessions[key] = p
	runtime.AddCleanup(s, func(p weak.Pointer[Session]) { l.forget(key, p) }, p)
	return s, nil
}

func (l *Lender) borrow(loan Loan, key loanKey) *Session {
	s := &Session{client: l.client, lease: loan.Lease, ttl: loan.TTL, owner: loan.Owner, namespace: loan.Namespace,
		log: loan.Log, lender: l, closed: make(chan struct{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.ctx = ownership.NewContext(context.Background(), func() error { return nil })
	s.engine = engine.New(engine.Config{Client: l.client, Lease: s.lease, TTL: s.ttl, Log: s.log, Session: s.ctx.Inner(),
		Gone: func() { l.gone(s, key) }, Shared: l.shared})
	return s
}

func (l Loan) check() error {
	for _, err := range []error{
		keyspace.CheckText("owner", l.Owner, maxOwner),
		keyspace.CheckNamespace("namespace", l.Namespace),
	} {
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	switch {
	case l.Lease == 0:
		return fmt.Errorf("%w: lease: is 0", ErrInvalid)
	case l.TTL <= 0:
		return fmt.Errorf("%w: ttl: %v is not positive", ErrInvalid, l.TTL)
	}
	return nil
}

// forget drops a session from the table, unless another one took its place.
func (l *Lender) forget(key loanKey, p weak.Pointer[Session]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sessions[key] == p {
		delete(l.sessions, key)
	}
}

// gone ends a session whose lease is gone, behind the caller who found it out.
func (l *Lender) gone(s *Session, key loanKey) {
	s.ctx.End(ErrSessionExpired)
	l.forget(key, weak.Make(s))
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed { // else Close does it
		l.ending.Go(func() { s.finish(nil) })
	}
}

// Close ends all sessions with [ErrSessionClosed]; their leases, and what they
// own or wait for in etcd, stand. Releases that were queued are sent first. It
// takes about a second at most, and is idempotent.
func (l *Lender) Close() {
	l.mu.Lock()
	l.closed = true
	var sessions []*Session
	for _, p := range l.sessions {
		if s := p.Value(); s != nil {
			sessions = append(sessions, s)
		}
	}
	clear(l.sessions)
	l.mu.Unlock()
	for _, s := range sessions {
		s.ctx.End(ErrSessionClosed)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	cut := context.AfterFunc(ctx, func() { l.shared.Committer.Close(ctx) })
	for _, s := range sessions {
		s.end.Do(func() { s.giveBack(ctx) })
		<-s.closed
		s.tellClosed()
	}
	l.ending.Wait()
	cut()
	cancel()
	l.shared.Committer.Close(ctx)
}

// giveBack ends a borrowed session here.
func (s *Session) giveBack(ctx context.Context) {
	defer close(s.closed)
	s.ctx.End(ErrSessionClosed)
	if errors.Is(context.Cause(s.ctx), ErrSessionExpired) {
		s.closeErr = fmt.Errorf("session: %w", ErrSessionExpired)
		s.cut()
		return
	}
	s.engine.Close(ctx)
}
