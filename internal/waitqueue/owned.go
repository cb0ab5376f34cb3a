package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/ownership"
)

// An Owned is one ownership, from the grant to its end.
type Owned struct {
	q     *Queue
	a     *acquisition
	t     *tenure
	token int64
	since clock.Stamp // with MaxHold only: to read the clock shows in profiles
	ctx   ownership.Context
	limit *time.Timer // with MaxHold only

	mu    sync.Mutex // held while the ownership is let go
	ended bool
	err   error // of the release

	attach   sync.Once
	attached any // the library's
}

// OwnedFrom returns the ownership whose context ctx derives from, or nil.
func OwnedFrom(ctx context.Context) *Owned {
	o, _ := ownership.Owner(ctx).(*Owned)
	return o
}

// newOwned makes a the tenure's present owner.
func (t *tenure) newOwned(ctx context.Context, a *acquisition) *Owned {
	o := &Owned{q: a.q, a: a, t: t, token: t.token()}
	o.mu.Lock()
	defer o.mu.Unlock()
	if a.req.MaxHold > 0 {
		o.since = clock.Now()
	}
	o.ctx.Init(ctx, o)
	o.ctx.Owns(o.token, o)
	a.q.owners.Add(&o.ctx)
	if d := a.req.MaxHold; d > 0 {
		o.limit = time.AfterFunc(d, o.overdue)
	}
	if a.line != nil {
		a.line.owned(a.record)
	}
	t.begin(o)
	return o
}

// Lapsed is the context's look at the clock.
func (o *Owned) Lapsed() error {
	if err := o.q.s.Context().Err(); err != nil {
		return o.a.req.Lost(o.q.ended())
	}
	if d := o.a.req.MaxHold; d > 0 && clock.Since(o.since) >= d {
		return o.a.req.Lost(fmt.Errorf("%w: held for longer than %v", core.ErrRevoked, d))
	}
	return nil
}

// overdue ends an ownership that lasted as long as it may, and passes the name on.
func (o *Owned) overdue() {
	_ = o.ctx.Check()
	_ = o.Release()
}

func (o *Owned) lose(cause error) { o.ctx.End(o.a.req.Lost(cause)) }

// Context ends when the ownership ends.
func (o *Owned) Context() context.Context { return &o.ctx }

// Token returns the fencing token.
func (o *Owned) Token() core.Token { return core.Token(o.token) }

// IsOwner holds in etcd as long as the ownership stands.
func (o *Owned) IsOwner() clientv3.Cmp { return o.t.isOwner() }

// Names returns the names owned.
func (o *Owned) Names() []string { return o.a.req.Names }

// Mode returns how they are owned.
func (o *Owned) Mode() Mode { return o.a.req.Mode }

// Stands tells whether the ownership has not ended, as far as is known here.
func (o *Owned) Stands() bool { return o.ctx.Err() == nil }

// Session tells whether the ownership is one of s.
func (o *Owned) Session(s *core.Session) bool { return o.q.s == s }

// Release ends the ownership. It returns nil if the ownership ended with it, an
// error made by Request.Lost if it had ended before, and core.ErrUnknownOutcome
// if etcd did not answer for a TTL; the release goes on then. Only the first call acts; all return the same.
func (o *Owned) Release() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		cause := o.ctx.Check()
		o.end()
		o.err = o.release(loss(cause))
	}
	return o.err
}

// end ends the context and its timers. It is called with the lock held.
func (o *Owned) end() {
	o.ended = true
	o.ctx.End(core.ErrReleased)
	o.unregister()
}

// unregister leaves nothing behind that would end the context.
func (o *Owned) unregister() {
	o.q.owners.Remove(&o.ctx)
	if o.limit != nil {
		o.limit.Stop()
	}
}

func (o *Owned) release(lost error) error {
	if lost == nil && o.t.passLocally(o) {
		return nil
	}
	p := o.t.startPass(o)
	if o.a.req.Deferred && lost == nil {
		return nil
	}
	err := p.wait()
	if lost != nil {
		return lost
	}
	return err
}

// Commit runs ops in one transaction that carries IsOwner. Without the
// ownership it returns an error made by Request.Lost, and changes nothing; to learn
// the cause it then asks etcd again, as long as ctx lasts.
func (o *Owned) Commit(ctx context.Context, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	if o.ctx.Err() != nil {
		return nil, o.lostNow()
	}
	// The read in the branch for strangers makes etcd answer from the agreed
	// state. Without an operation that needs it, the member answers from its own,
	// which even in a single member is behind the event that told of the grant.
	resp, err := o.q.e.Client().Txn(ctx).If(o.IsOwner()).Then(ops...).
		Else(clientv3.OpGet(o.t.a.proof(), clientv3.WithCountOnly())).Commit()
	if err != nil {
		return nil, commit.Classify(err)
	}
	if !resp.Succeeded {
		return nil, o.goneNow(ctx)
	}
	return resp, nil
}

// goneNow ends an ownership of which etcd has just said that it is over, and
// returns why, if that can be known while ctx lasts.
func (o *Owned) goneNow(ctx context.Context) error {
	o.t.lost(nil, 0)
	select {
	case <-o.ctx.Done():
		return o.lostNow()
	case <-ctx.Done():
	case <-o.q.e.Context().Done():
	}
	return o.a.req.Lost(core.ErrKeyDeleted)
}

// lostNow is the error of a verb on an ownership that has ended.
func (o *Owned) lostNow() error {
	cause := o.ctx.Check()
	if errors.Is(cause, core.ErrReleased) || errors.Is(cause, ErrDetached) {
		return o.a.req.Lost(cause)
	}
	return cause
}
