package rendezvous

import (
	"context"
	"errors"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/ownership"
)

// tokenShift: tokens of all recipes leave room for an index below the revision.
const tokenShift = 16

// An Owned is a key that the session owns: a hold, or a member's ticket.
type Owned struct {
	h   *Hall
	p   *place
	key string
	rev int64 // with which the key was written
	ctx ownership.Context
	// lost makes the library's error of the cause of a loss.
	lost func(cause error) error

	drop sync.Once
}

// own begins an ownership. The place stays in use until it is let go.
func (p *place) own(ctx context.Context, key string, rev int64, lost func(error) error, owner any) *Owned {
	o := &Owned{h: p.h, p: p.h.use(p.key.name, p.key.kind), key: key, rev: rev, lost: lost}
	o.ctx.Init(ctx, o)
	o.ctx.Owns(rev<<tokenShift, owner)
	p.h.owners.Add(&o.ctx)
	p.keep(o)
	return o
}

// Lapsed is the context's look at the session's clock.
func (o *Owned) Lapsed() error {
	if o.h.s.Context().Err() != nil {
		return o.lost(o.h.ended())
	}
	return nil
}

// Context ends when the ownership does.
func (o *Owned) Context() context.Context { return &o.ctx }

// Token returns the fencing token.
func (o *Owned) Token() core.Token { return core.Token(o.rev << tokenShift) }

// IsOwner holds in etcd as long as the key stands.
func (o *Owned) IsOwner() clientv3.Cmp { return unmodified(o.key, o.rev) }

// Commit runs ops in one transaction that carries IsOwner.
func (o *Owned) Commit(ctx context.Context, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	if o.ctx.Err() != nil {
		return nil, o.over()
	}
	// The read makes etcd answer a refusal from the agreed state, too.
	resp, err := o.h.e.Client().Txn(ctx).If(o.IsOwner()).Then(ops...).Else(clientv3.OpGet(o.key, clientv3.WithCountOnly())).Commit()
	if err != nil {
		return nil, commit.Classify(err)
	}
	if !resp.Succeeded {
		o.gone()
		return nil, o.over()
	}
	return resp, nil
}

// over is the error of a verb on an ownership that has ended.
func (o *Owned) over() error {
	cause := o.ctx.Check()
	if errors.Is(cause, core.ErrReleased) {
		return o.lost(cause)
	}
	return cause
}

// gone ends the ownership after its key went.
func (o *Owned) gone() {
	o.ctx.End(o.lost(core.ErrKeyDeleted))
	o.let()
}

// end ends the ownership as let go, and returns why it had ended before, if so.
func (o *Owned) end(cause error) (before error) {
	before = o.ctx.Check()
	o.ctx.End(cause)
	o.let()
	return before
}

// let leaves nothing behind that would look after the ownership.
func (o *Owned) let() {
	o.drop.Do(func() {
		o.h.owners.Remove(&o.ctx)
		o.p.unkeep(o)
		o.h.drop(o.p)
	})
}
