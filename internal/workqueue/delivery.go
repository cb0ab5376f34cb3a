package workqueue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/ownership"
)

// tokenBits of a token tell deliveries of one transaction apart.
const tokenBits = 16

// A Delivery is an item that was claimed, until it is settled or lost. It is
// safe for concurrent use.
type Delivery struct {
	d    *Dock
	ID   string
	Rec  Record
	key  string       // under out/
	rev  int64        // of the claim
	mod  atomic.Int64 // of the key
	in   *bundle      // that it was claimed in; nil for none
	here int64        // revision of the consumer's key, that its claim was guarded by
	at   clock.Stamp

	ctx ownership.Context

	mu       sync.Mutex
	lasts    time.Duration // since at
	settling bool          // a verb is under way, and the warden waits
	doubts   kind          // steps of unknown outcome that were sent
	acked    kind          // by one of these, as another verb has found out
	over     error
}

// delivery returns one that was claimed at a revision.
func (d *Dock) delivery(id string, rec Record, rev, here int64, at clock.Stamp) *Delivery {
	v := &Delivery{d: d, ID: id, Rec: rec, key: d.root.outOf(d.lease, id), rev: rev, here: here, at: at, lasts: d.cfg.Visibility}
	v.mod.Store(rev)
	return v
}

// Context ends with the delivery, and compares the clock when it is asked.
func (v *Delivery) Context() context.Context { return &v.ctx }

// Token returns the fencing token.
func (v *Delivery) Token() int64 { return v.rev<<tokenBits | int64(v.Rec.Index) }

// IsOwner is the comparison that holds as long as the delivery stands. One that shares
// a key with others gets its own first, which asks etcd; if that does not answer, the
// comparison may cease to hold earlier.
func (v *Delivery) IsOwner() clientv3.Cmp {
	if v.d.e.Enter() {
		defer v.d.e.Leave()
		ctx, cancel := context.WithTimeout(v.d.e.Session(), requestWait)
		defer cancel()
		if v.onItsOwn(ctx) != nil {
			return v.in.stands()
		}
	}
	return v.stands()
}

// stands holds as long as the delivery has its own key.
func (v *Delivery) stands() clientv3.Cmp { return unchanged(v.key, v.mod.Load()) }

// Lapsed is the context's look at the clock.
func (v *Delivery) Lapsed() error {
	if v.d.cfg.Session.Err() != nil {
		return v.stale(context.Cause(v.d.cfg.Session))
	}
	if v.left() <= 0 {
		return v.stale(fmt.Errorf("%w: visibility is over", v.d.cfg.Revoked))
	}
	return nil
}

func (v *Delivery) stale(cause error) error { return fmt.Errorf("%w: %w", ErrStale, cause) }

// left returns how long the delivery lasts. That of a session which hosts serve
// is timed in etcd, since another host may have prolonged it.
func (v *Delivery) left() time.Duration {
	if v.d.e.Borrowed() {
		return time.Hour
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.lasts - clock.Since(v.at)
}

// end ends the delivery here.
func (v *Delivery) end(cause error) {
	v.mu.Lock()
	if v.over == nil {
		v.over = cause
	}
	v.mu.Unlock()
	v.ctx.End(cause)
	v.d.puts.outs.remove(v.key, v.rev)
	v.d.mu.Lock()
	defer v.d.mu.Unlock()
	if v.d.held[v.ID] == v {
		delete(v.d.held, v.ID)
	}
}

// settle lets one verb at a time try to end the delivery. It reports false if it
// is over.
func (v *Delivery) settle() bool {
	lapsed := v.Lapsed() != nil
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.over != nil || v.settling || lapsed && v.doubts == 0 {
		return false
	}
	v.settling = true
	return true
}

func (v *Delivery) settled() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.settling = false
}

// give makes deliveries the caller's.
func (d *Dock) give(ctx context.Context, all []*Delivery) []*Delivery {
	for _, v := range all {
		v.ctx.Init(ctx, v)
		v.ctx.Owns(v.Token(), v)
	}
	d.hold(all)
	return all
}

// hold has the warden return those that stand when their time is over.
func (d *Dock) hold(all []*Delivery) {
	if d.e.Borrowed() {
		return // others may settle them at another host
	}
	d.mu.Lock()
	for _, v := range all {
		if !v.isOver() {
			d.held[v.ID] = v
		}
	}
	start := !d.warden && len(d.held) > 0
	d.warden = d.warden || start
	d.mu.Unlock()
	if start {
		d.e.Go(d.watchOver)
	}
	if d.e.Session().Err() != nil { // after endAll
		d.endAll()
	}
}

func (v *Delivery) isOver() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.over != nil
}

// watchOver returns deliveries whose time is over to the queue, until none is
// held. It is at most an eighth of the visibility late, and never early.
func (d *Dock) watchOver(ctx context.Context) {
	every := min(max(d.cfg.Visibility/8, 10*time.Millisecond), time.Second)
	for pause(ctx, d.e, every) {
		var over []*Delivery
		d.mu.Lock()
		for _, v := range d.held {
			if v.left() <= 0 {
				over = append(over, v)
			}
		}
		if len(d.held) == 0 {
			d.warden = false
			d.mu.Unlock()
			return
		}
		d.mu.Unlock()
		for _, v := range over {
			v.expire(ctx)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.warden = false
}

// DeliveryFrom returns the delivery whose context ctx is, or is derived from.
func DeliveryFrom(ctx context.Context) *Delivery {
	v, _ := ownership.Owner(ctx).(*Delivery)
	return v
}

// Resume returns a delivery of the session by id and token, whatever process of
// the session took it, or ErrStale if it is over. It is one read, but for one that
// another process took together with others.
func (d *Dock) Resume(ctx context.Context, id string, token int64) (*Delivery, error) {
	if !d.e.Enter() {
		return nil, ended(d.e)
	}
	defer d.e.Leave()
	d.mu.Lock()
	held := d.held[id]
	d.mu.Unlock()
	if held != nil && held.Token() == token {
		return held, nil
	}
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		v, err := d.find(ctx, id, token)
		if err != nil {
			return nil, err
		}
		if v != nil {
			return d.give(ctx, []*Delivery{v})[0], nil
		}
		switch there, err := d.unbind(ctx, id, token); {
		case errors.Is(err, commit.ErrUnknown) && pause(ctx, d.e, delay): // look
		case err != nil:
			return nil, err
		case !there:
			return nil, ErrStale
		}
	}
}

// find reads a delivery that has its own key. It returns nil if there is none.
func (d *Dock) find(ctx context.Context, id string, token int64) (*Delivery, error) {
	at := clock.Now()
	resp, err := read(ctx, d.e, clientv3.OpGet(d.root.outOf(d.lease, id)), clientv3.OpGet(d.root.here(d.lease)))
	if err != nil {
		return nil, err
	}
	r := commit.Result{Responses: resp.Responses}
	out, here := first(r, 0), first(r, 1)
	if out == nil {
		return nil, nil
	}
	rec, err := decode(out.Value)
	if err != nil {
		return nil, err
	}
	var stands int64 // a delivery may stand without it, and be acked
	if here != nil {
		stands = here.CreateRevision
	}
	v := d.delivery(id, rec, cmp.Or(rec.Of, out.ModRevision), stands, at)
	v.mod.Store(out.ModRevision)
	if v.Token() != token {
		return nil, nil
	}
	return v, nil
}

// unbind splits the bundle of a delivery, and reports false if it is in none.
func (d *Dock) unbind(ctx context.Context, id string, token int64) (bool, error) {
	b, shares, err := bundleAt(ctx, d.e.Client(), d.root, d.lease, id, token)
	if b == nil || err != nil {
		return false, err
	}
	_, err = d.e.Do(ctx, d.splitTxn(string(b.Key), b.ModRevision, shares))
	return true, err
}
