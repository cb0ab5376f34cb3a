package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
)

// Downgrade turns an exclusive ownership into a shared one, in one transaction
// that also lets in the sharers who wait next. The writer's ticket goes with
// it: sharers behind it would wait for it although they fit.
func (o *Owned) Downgrade(ctx context.Context) (*Owned, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ctx.Err() != nil {
		return nil, o.lostNow()
	}
	if o.a.req.Mode != Exclusive {
		return nil, fmt.Errorf("%w: only a write lock of one name can be downgraded", core.ErrInvalid)
	}
	if !o.q.e.Enter() {
		return nil, o.q.ended()
	}
	defer o.q.e.Leave()
	ctx, cancel := o.q.untilSessionEnds(ctx)
	defer cancel()
	r := *o.a.req
	r.Mode, r.Delay, r.LocalN = Shared, 0, 0
	heir := o.q.newAcquisition(&r, []*name{o.q.use(r.Names[0])})
	hints, err := o.nextInLine(ctx)
	if err != nil {
		heir.end()
		return nil, sessionError(ctx, err)
	}
	o.t.finish() // the grant goes by our own hand now
	t, err := o.downgradeTo(ctx, heir, hints)
	if err != nil {
		o.t.goOn()
		heir.abandon(ctx)
		return nil, sessionError(ctx, err)
	}
	o.end()
	o.t.a.forget()
	if o.a != o.t.a {
		o.a.done()
	}
	if o.a.line != nil {
		o.a.line.advance()
	}
	return t.newOwned(ctx, heir), nil
}

// nextInLine returns who waits next.
func (o *Owned) nextInLine(ctx context.Context) ([]hint, error) {
	if len(o.t.hints) > 0 {
		return openHints(o.t.hints), nil
	}
	resp, err := o.q.e.Client().Do(ctx, get(o.t.a.parts[0].n.line()))
	if err != nil {
		return nil, err
	}
	return lineOf(resp.Get().Kvs), nil
}

// downgradeTo sends the transaction until its outcome is known.
func (o *Owned) downgradeTo(ctx context.Context, heir *acquisition, hints []hint) (*tenure, error) {
	p := o.t.newPass(o)
	part := &p.parts[0]
	then := append(p.leave(part, nil), clientv3.OpPut(heir.parts[0].own, heir.rec, heir.lease()))
	if len(hints) > 0 && hints[0].Mode == Shared {
		if b, _, err := part.p.n.ticketID(hints[0].Key); err == nil {
			then = append(then, nested([]clientv3.Cmp{idle(part.p.n.above(b))}, p.admit(part, p.batch(hints, b, part), 1), nil))
		}
	}
	txn := heir.txn([]clientv3.Cmp{unmodified(part.p.own, o.t.rev), absent(part.p.n.void(heir.id))}, then,
		[]clientv3.Op{clientv3.OpGet(heir.parts[0].own)})
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		r, err := o.q.e.Do(ctx, txn)
		switch {
		case err == nil && r.Succeeded:
			return heir.tenureAt(r.Revision), nil
		case err == nil:
			if mine := kv(r, 0); mine != nil { // by an earlier request, whose reply was lost
				return heir.tenureAt(mine.ModRevision), nil
			}
			return nil, o.a.req.Lost(o.t.whyLost(ctx, nil, 0))
		case !errors.Is(err, commit.ErrUnknown):
			return nil, err
		}
		heir.uncertain = true
		if sleep(ctx, pause) != nil {
			return nil, err
		}
	}
}
