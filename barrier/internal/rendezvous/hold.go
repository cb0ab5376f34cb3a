package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// holdings are what stands of a barrier.
type holdings struct {
	held []*mvccpb.KeyValue
	lost []Record // whose hold went without being released
}

func (p *place) readHoldings(ctx context.Context) (holdings, int64, error) {
	resp, err := p.h.e.Client().Txn(ctx).Then(get(below(p.prefix+holdPart)), get(below(p.prefix+guardPart))).Commit()
	if err != nil {
		return holdings{}, 0, err
	}
	held, guards := resp.Responses[0].GetResponseRange().GetKvs(), resp.Responses[1].GetResponseRange().GetKvs()
	h := holdings{held: held}
	for _, id := range orphans(guards, held) {
		h.lost = append(h.lost, recordOf(id.Value))
	}
	return h, resp.Header.Revision, nil
}

// orphans are the guards whose hold is gone.
func orphans(guards, held []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	stands := make(map[string]bool, len(held))
	for _, kv := range held {
		stands[idOf(kv.Key)] = true
	}
	var gone []*mvccpb.KeyValue
	for _, kv := range guards {
		if !stands[idOf(kv.Key)] {
			gone = append(gone, kv)
		}
	}
	return gone
}

// A HoldRequest says what barrier to hold, and how.
type HoldRequest struct {
	Name        string
	Purpose     string
	Persistent  bool // the hold outlives the session
	Guarded     bool // its loss breaks the barrier
	OnePerLease bool // the session holds at most once, whichever host serves it
	Lost        func(cause error) error
}

// Check returns an error that is core.ErrInvalid and names the field.
func (r *HoldRequest) Check() error {
	if err := errors.Join(keyspace.CheckName("name", r.Name), keyspace.CheckText("purpose", r.Purpose, MaxPurpose)); err != nil {
		return fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	return nil
}

// A Held is a barrier that is held.
type Held struct {
	*Owned
	id   string
	void bool // its end leaves a void record: requests of it may still be on their way

	mu   sync.Mutex
	over bool
	err  error
}

// A holding is one Hold, from the first request to its answer.
type holding struct {
	h       *Hall
	p       *place
	req     *HoldRequest
	id      string
	record  string
	voided  int64 // the void record's revision that its requests expect
	unknown bool
	sent    bool
}

func (g *holding) hold() string { return g.p.prefix + holdPart + g.id }

// Hold closes a barrier, beside others who hold it.
func (h *Hall) Hold(ctx context.Context, r *HoldRequest) (*Held, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	call, done, err := h.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	g := &holding{h: h, p: h.use(r.Name, ""), req: r, id: h.e.NewID()}
	defer h.drop(g.p)
	if r.OnePerLease {
		g.id = leasePart(h.e) + one
	}
	rec := h.record
	rec.ID, rec.Purpose, rec.Persistent, rec.Since = g.id, r.Purpose, r.Persistent, time.Now().UTC()
	g.record = mustJSON(rec)
	rev, err := g.take(call)
	if err != nil {
		return nil, g.fail(call, err)
	}
	return g.p.held(ctx, g.id, rev, g.unknown || r.OnePerLease, r.Lost), nil
}

func (p *place) held(ctx context.Context, id string, rev int64, void bool, lost func(error) error) *Held {
	held := &Held{id: id, void: void}
	held.Owned = p.own(ctx, p.prefix+holdPart+id, rev, lost, held)
	return held
}

// take puts the hold, and takes away what lost holds left.
func (g *holding) take(ctx context.Context) (rev int64, err error) {
	if g.req.OnePerLease {
		err := g.h.patiently(ctx, func(ctx context.Context) error {
			resp, err := g.h.e.Client().Get(ctx, g.p.void(g.id))
			if err == nil && len(resp.Kvs) > 0 {
				g.voided = resp.Kvs[0].ModRevision
			}
			return err
		})
		if err != nil {
			return 0, err
		}
	}
	g.sent = true
	r, err := g.h.settle(ctx, g.txn(), func() { g.unknown = true })
	switch {
	case err != nil:
		return 0, err
	case r.Succeeded:
		rev = r.Revision
	case len(kvs(r, 0)) > 0: // by an earlier try, or another call of the session
		rev = kvs(r, 0)[0].ModRevision
	default:
		return 0, core.ErrUnknownOutcome // another host let go of it meanwhile
	}
	return rev, g.clear(ctx, orphans(kvs(r, 2), kvs(r, 1)))
}

func (g *holding) txn() commit.Txn {
	var opts []clientv3.OpOption
	if !g.req.Persistent {
		opts = append(opts, clientv3.WithLease(g.h.e.Lease()))
	}
	held, guards := get(below(g.p.prefix+holdPart), clientv3.WithKeysOnly()), get(below(g.p.prefix+guardPart), clientv3.WithKeysOnly())
	t := commit.Txn{
		Scope: []string{g.p.prefix},
		If:    []clientv3.Cmp{unmodified(g.p.void(g.id), g.voided), absent(g.hold())},
		Then:  []clientv3.Op{clientv3.OpPut(g.hold(), g.record, opts...), held, guards},
		Else:  []clientv3.Op{clientv3.OpGet(g.hold()), held, guards},
	}
	if g.req.Guarded {
		t.Then = append(t.Then, clientv3.OpPut(g.p.prefix+guardPart+g.id, g.record))
	}
	return t
}

// clear takes away the guards of lost holds: with a new hold the barrier is whole.
func (g *holding) clear(ctx context.Context, guards []*mvccpb.KeyValue) error {
	for len(guards) > 0 {
		some := guards[:min(32, len(guards))]
		guards = guards[len(some):]
		var ops []clientv3.Op
		for _, kv := range some {
			hold := g.p.prefix + holdPart + idOf(kv.Key)
			if hold != g.hold() {
				ops = append(ops, clientv3.OpTxn([]clientv3.Cmp{absent(hold)}, []clientv3.Op{clientv3.OpDelete(string(kv.Key))}, nil))
			}
		}
		if len(ops) == 0 {
			continue
		}
		if _, err := g.h.settle(ctx, commit.Txn{Scope: []string{g.p.prefix}, Then: ops}, nil); err != nil {
			return err
		}
	}
	return nil
}

// fail ends a Hold that may have put something: in the background, so that no late
// request closes the barrier for nobody.
func (g *holding) fail(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = waitError(ctx)
	}
	if !g.sent || isSessionEnd(err) && !g.req.Persistent {
		return err
	}
	over := make(chan struct{})
	p := g.h.use(g.req.Name, "")
	g.h.e.Go(func(bg context.Context) {
		defer close(over)
		defer g.h.drop(p)
		bg, cancel := g.h.background(bg)
		defer cancel()
		gone := []clientv3.Op{clientv3.OpDelete(g.hold()), clientv3.OpDelete(g.p.prefix + guardPart + g.id)}
		_, _ = g.h.settleLean(bg, commit.Txn{
			Scope: []string{g.p.prefix},
			If:    []clientv3.Cmp{unmodified(g.p.void(g.id), g.voided)},
			Then:  append(gone[:2:2], clientv3.OpPut(g.p.void(g.id), "", clientv3.WithLease(g.h.e.Lease()))),
		}, gone, nil)
	})
	timer := time.NewTimer(abandonWait)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
	}
	return err
}

// Release lets go. It returns nil if the hold stood until now, and an error made by
// lost if it did not. Only the first call acts; all return the same.
func (o *Held) Release() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return o.err
	}
	o.over = true
	p := o.h.use(o.p.key.name, "")
	defer o.h.drop(p)
	before := o.end(core.ErrReleased)
	if !o.h.e.Enter() {
		o.err = before
		if before == nil || errors.Is(before, core.ErrReleased) {
			o.err = o.lost(o.h.ended())
		}
		return o.err
	}
	defer o.h.e.Leave()
	over := make(chan struct{})
	var err error
	o.h.e.Go(func(bg context.Context) {
		defer close(over)
		err = o.h.detached(bg, func(ctx context.Context) error { return o.release(ctx, p) })
	})
	<-over
	if o.err = err; before != nil {
		o.err = before
	}
	return o.err
}

func (o *Held) release(ctx context.Context, p *place) error {
	t := commit.Txn{
		Scope: []string{p.prefix},
		If:    []clientv3.Cmp{unmodified(o.key, o.rev)},
		Then:  []clientv3.Op{clientv3.OpDelete(o.key), clientv3.OpDelete(p.prefix + guardPart + o.id)},
		Else:  []clientv3.Op{clientv3.OpGet(o.key, clientv3.WithCountOnly())},
	}
	if o.void {
		t.Then = append(t.Then, clientv3.OpPut(p.void(o.id), "", clientv3.WithLease(o.h.e.Lease())))
	}
	unknown := false
	r, err := o.h.settleLean(ctx, t, t.Then[:2:2], func() { unknown = true })
	switch {
	case err != nil:
		return err
	case r.Succeeded || unknown: // a try before may have done it
		return nil
	case o.h.e.LeaseGone(ctx):
		return o.lost(o.h.ended())
	}
	return o.lost(core.ErrKeyDeleted)
}

// Detach ends the ownership here and leaves the barrier held, for ResumeHold.
func (o *Held) Detach() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.over {
		o.over, o.err = true, o.lost(ErrDetached)
		_ = o.end(ErrDetached)
	}
}

// Wait waits until nobody holds a barrier. A *BrokenError says that a guarded hold
// was lost.
func (h *Hall) Wait(ctx context.Context, name string) error {
	if err := (&HoldRequest{Name: name}).Check(); err != nil {
		return err
	}
	ctx, done, err := h.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	p := h.use(name, "")
	defer h.drop(p)
	var v holdings
	fresh := func(ctx context.Context) (err error) {
		v, err = p.holds.fresh(ctx)
		return err
	}
	if err := h.patiently(ctx, fresh); err != nil {
		return err
	}
	for {
		switch {
		case len(v.lost) > 0:
			return &BrokenError{Owner: v.lost[0].Owner}
		case len(v.held) == 0:
			return nil
		}
		now, known, changed := p.holds.now()
		if !known { // something was deleted, or the watch was lost: the state decides
			if err := h.patiently(ctx, fresh); err != nil {
				return err
			}
			continue
		}
		if v = now; len(v.held) == 0 || len(v.lost) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return waitError(ctx)
		}
	}
}
