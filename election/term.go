package election

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// A Term is a leadership, from one win to its end. It is a value of its own: a
// later term of the same election is another one.
type Term struct {
	name  string
	owned *waitqueue.Owned

	resign   sync.Once
	resigned chan struct{} // closed by Resign
}

var _ core.Ownership = (*Term)(nil)

// term makes a Term of an ownership; there is one to each.
func (e *Election) term(o *waitqueue.Owned, grace time.Duration) *Term {
	return o.Attached(func() any {
		t := &Term{name: e.name, owned: o, resigned: make(chan struct{})}
		e.watchHealth(t, grace)
		return t
	}).(*Term)
}

// TermFrom returns the term whose context ctx is, or is derived from: in the
// function given to [Election.Run], the one that it leads in.
func TermFrom(ctx context.Context) (*Term, bool) {
	o := waitqueue.OwnedFrom(ctx)
	if o == nil {
		return nil, false
	}
	t, ok := o.Attached(func() any { return nil }).(*Term)
	return t, ok
}

// Name returns the name of the election.
func (t *Term) Name() string { return t.name }

// Context ends when the term does, at the latest when etcd could let another
// lead. context.Cause is core.ErrReleased after Resign; core.ErrReleased with
// [ErrTransferred] or [ErrUnhealthy] when the leader is to step down, and still
// leads until it resigns; else an error that is [ErrLost] and one of core's
// causes. It carries the token (core.TokenFrom), the term ([TermFrom]), and the
// values of the context that Campaign was called with.
func (t *Term) Context() context.Context { return t.owned.Context() }

// Token returns the fencing token.
func (t *Term) Token() core.Token { return t.owned.Token() }

// IsOwner is the comparison that holds in etcd as long as the term stands. Use it
// in transactions that write or read something: etcd answers one without any
// operation from what a single member knows.
func (t *Term) IsOwner() clientv3.Cmp { return t.owned.IsOwner() }

// Proclaim replaces the value that others see of the leader, at most 4,096 bytes
// of UTF-8. It writes only while the term stands, else it returns [ErrLost]. The
// error is core.ErrUnknownOutcome if nobody knows whether it was written; to
// proclaim it again does no harm.
func (t *Term) Proclaim(ctx context.Context, value string) error {
	return named(t.name, t.owned.Give(ctx, value))
}

// Commit runs ops in one etcd transaction that commits only while the term
// stands. If it does not, it changes nothing and returns [ErrLost]; the error is
// core.ErrUnknownOutcome if nobody knows whether it committed.
func (t *Term) Commit(ctx context.Context, ops ...clientv3.Op) (*clientv3.TxnResponse, error) {
	resp, err := t.owned.Commit(ctx, ops)
	if err != nil {
		return nil, named(t.name, err)
	}
	return resp, nil
}

// Resign ends the term and lets the first in line lead, or the contender to whom
// the term was transferred. It needs no context: it is bounded by the session's
// TTL and works after the work's context was cancelled. It is idempotent; every
// call returns the same.
//
// It returns nil if the term stood until now, an error that is [ErrLost] if it did
// not, and core.ErrUnknownOutcome if etcd did not answer for a TTL; it then goes
// on in the background as long as the session lives.
func (t *Term) Resign() error {
	t.resign.Do(func() { close(t.resigned) })
	return t.owned.Release()
}
