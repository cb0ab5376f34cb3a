package workqueue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/commit"
)

// Ack ends the delivery and the item, and commits the effects with it, or
// neither. It returns ErrStale, with nothing written, if the delivery is over,
// and an error that is commit.ErrUnknown if ctx ended before etcd answered.
func (v *Delivery) Ack(ctx context.Context, effects []clientv3.Op) error {
	return v.finish(ctx, step{free: true, ack: true, ops: func() []clientv3.Op { return effects },
		after: func(revision int64) { place(ctx, v.d.e, effects, revision) }})
}

// Nack returns the item to the front of the queue, or after a delay. An item
// that had all its attempts becomes a dead letter. The reason is kept.
func (v *Delivery) Nack(ctx context.Context, after time.Duration, reason string) error {
	if v.Rec.Attempts >= v.d.cfg.MaxAttempts {
		return v.bury(ctx, exhausted(v.Rec.Attempts, v.d.cfg.MaxAttempts, reason))
	}
	rec := v.Rec
	rec.Reason = reason
	err := v.finish(ctx, step{front: after == 0, ops: func() []clientv3.Op { return []clientv3.Op{v.d.root.back(v.ID, rec, after)} }})
	if after == 0 {
		v.d.giveWay(ctx)
	}
	return err
}

// Reject makes the item a dead letter at once.
func (v *Delivery) Reject(ctx context.Context, reason string) error { return v.bury(ctx, reason) }

func (v *Delivery) bury(ctx context.Context, reason string) error {
	rec := v.Rec
	rec.Reason = reason
	return v.finish(ctx, step{free: true, ops: func() []clientv3.Op { return []clientv3.Op{v.d.root.dead().back(v.ID, rec, 0)} }})
}

func exhausted(attempts, limit int, reason string) string {
	text := fmt.Sprintf("attempt %d of %d", attempts, limit)
	if reason != "" {
		text += ": " + reason
	}
	return text[:min(len(text), MaxReason)]
}

// unclaim returns an item that nobody was given, as if it had not been claimed.
func (v *Delivery) unclaim(ctx context.Context) {
	rec := v.Rec
	rec.Attempts--
	_ = v.finish(ctx, step{front: true, ops: func() []clientv3.Op { return []clientv3.Op{v.d.root.back(v.ID, rec, 0)} }})
}

// expire returns an item whose delivery's time is over.
func (v *Delivery) expire(ctx context.Context) {
	cause := v.stale(fmt.Errorf("%w: visibility is over", v.d.cfg.Revoked))
	v.ctx.End(cause)
	v.mu.Lock()
	if v.settling || v.over != nil {
		v.mu.Unlock()
		return // next time, if it still stands then
	}
	v.settling = true
	v.mu.Unlock()
	defer v.settled()
	rec := v.Rec
	rec.Reason = "visibility is over"
	err := v.commit(ctx, step{front: true, ops: func() []clientv3.Op { return []clientv3.Op{v.d.root.back(v.ID, rec, 0)} }})
	if err == nil || errors.Is(err, ErrStale) {
		v.endStale(cause)
	}
}

// back returns the put of an item at its place in front of the queue, or of one
// that is due later.
func (k keys) back(id string, rec Record, after time.Duration) clientv3.Op {
	rec.Index, rec.Of = 0, 0
	if after > 0 {
		return clientv3.OpPut(k.laterAt(time.Now().Add(after).UnixMilli(), id), rec.encode())
	}
	return clientv3.OpPut(k.frontOf(bucket(rec.Priority), rec.Order, id), rec.encode())
}

// step is what ends a delivery.
type step struct {
	free  bool // the item leaves the queue, so the next of its group comes in
	front bool // it goes to the front
	ack   bool
	ops   func() []clientv3.Op
	// after is called when the step was applied, with its revision. May be nil.
	after func(revision int64)
}

// finish ends the delivery by a step.
func (v *Delivery) finish(ctx context.Context, s step) error {
	if !v.d.e.Enter() {
		return v.ended(s.kind(), v.stale(ended(v.d.e)))
	}
	defer v.d.e.Leave()
	if !v.settle() {
		return v.why(s.kind())
	}
	defer v.settled()
	err := v.commit(ctx, s)
	switch {
	case err == nil:
		v.sure()
		v.end(v.d.cfg.Released)
	case errors.Is(err, ErrStale):
		v.endStale(err)
	}
	return err
}

// commit sends the transaction of a step until its outcome is known.
func (v *Delivery) commit(ctx context.Context, s step) error {
	if err := v.onItsOwn(ctx); err != nil {
		return err
	}
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		txn, err := v.txn(ctx, s)
		var r commit.Result
		if err == nil {
			r, err = v.d.send(ctx, txn)
		}
		switch {
		case err == nil && r.Succeeded:
			if s.front || v.Rec.Group != "" {
				v.d.puts.jumps.Add(1)
			}
			if s.after != nil {
				s.after(r.Revision)
			}
			v.sure()
			return nil
		case err == nil:
			if v.unmoved(r) { // the group has changed
				delay = 20 * time.Millisecond
				continue
			}
			if s.ack && v.d.e.Borrowed() && v.inDoubt() != 0 {
				err := v.recall(ctx)
				if errors.Is(err, ErrStale) {
					v.sure()
				}
				return err
			}
			return v.refused(r, s.kind())
		case errors.Is(err, commit.ErrUnknown):
			v.unsure(s.kind())
		case !passing(err) && v.inDoubt()&s.kind() != 0: // an earlier try may have been applied
			return fmt.Errorf("%w: %w", commit.ErrUnknown, err)
		case !passing(err):
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", commit.ErrUnknown, context.Cause(ctx))
		}
		if !pause(ctx, v.d.e, delay) && v.d.e.Session().Err() != nil {
			return fmt.Errorf("%w: %w", commit.ErrUnknown, ended(v.d.e))
		}
	}
}

// txn builds the transaction of a step.
func (v *Delivery) txn(ctx context.Context, s step) (commit.Txn, error) {
	k := v.d.root
	t := commit.Txn{Scope: []string{v.key}, Likely: true, If: []clientv3.Cmp{v.stands()},
		Then: []clientv3.Op{clientv3.OpDelete(v.key)},
		Else: []clientv3.Op{clientv3.OpGet(v.key), clientv3.OpGet(k.here(v.d.lease)), clientv3.OpGet(k.untilOf(v.d.lease, v.ID))}}
	if v.d.e.Borrowed() {
		t.Then = append(t.Then, clientv3.OpDelete(k.untilOf(v.d.lease, v.ID)))
	}
	if g := v.Rec.Group; g != "" && s.free {
		cmps, ops, err := k.advance(ctx, v.d.e, g)
		if err != nil {
			return t, err
		}
		t.Scope = append(t.Scope, string(k)+"group/"+g)
		t.If, t.Then = append(t.If, cmps...), append(t.Then, ops...)
	}
	t.Then = append(t.Then, s.ops()...)
	return t, nil
}

// unmoved tells from the else branch of a step that the delivery stands.
func (v *Delivery) unmoved(r commit.Result) bool {
	out := first(r, 0)
	return out != nil && out.ModRevision == v.mod.Load()
}

// refused finds out from the else branch what became of a step of kind k.
func (v *Delivery) refused(r commit.Result, k kind) error {
	out, here, note := first(r, 0), first(r, 1), first(r, 2)
	switch {
	case out == nil && note == nil && here != nil && here.CreateRevision == v.here:
		return v.judge(k)
	case out == nil && note == nil && v.inDoubt()&k.asks() != 0:
		return fmt.Errorf("%w: the session ended", commit.ErrUnknown) // it did, or whoever found it gone
	}
	if out != nil || note != nil {
		v.sure() // somebody has returned it
	}
	return ErrStale
}

// send sends a transaction with the session's others, or alone if it reads or
// writes more than single keys: what shares a key must not share a batch.
func (d *Dock) send(ctx context.Context, t commit.Txn) (commit.Result, error) {
	for i, op := range t.Then {
		switch {
		case op.IsTxn() || len(op.RangeBytes()) > 0:
			return alone(ctx, d.e, t)
		case i > 0: // the first one is the delivery's, which is there
			t.Scope = append(t.Scope, string(op.KeyBytes()))
		}
	}
	return d.e.Do(ctx, t)
}

// Extend makes the delivery last for t from now on. For a session's own
// deliveries that costs no request: their time is kept here, and etcd keeps the
// session's.
func (v *Delivery) Extend(ctx context.Context, t time.Duration) error {
	v.mu.Lock()
	over := v.over != nil
	v.mu.Unlock()
	if over || v.Lapsed() != nil {
		return v.why(0)
	}
	if v.d.e.Borrowed() {
		return v.d.extend(ctx, v.ID, v.mod.Load(), t)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lasts = clock.Since(v.at) + t
	return nil
}

// extend makes a delivery of a session that hosts serve last for t from now on. Its key
// has the revision mod.
func (d *Dock) extend(ctx context.Context, id string, mod int64, t time.Duration) error {
	r, err := d.e.Do(ctx, commit.Txn{Scope: []string{d.root.outOf(d.lease, id)},
		If:   []clientv3.Cmp{unchanged(d.root.outOf(d.lease, id), mod)},
		Then: []clientv3.Op{d.deadline(id, t)}})
	switch {
	case err != nil:
		return err
	case !r.Succeeded:
		return ErrStale
	}
	return nil
}

// deadline puts the time of a delivery where whoever consumes compares it.
func (d *Dock) deadline(id string, t time.Duration) clientv3.Op {
	at := strconv.FormatInt(time.Now().Add(t).UnixMilli(), 10)
	return clientv3.OpPut(d.root.untilOf(d.lease, id), at)
}
