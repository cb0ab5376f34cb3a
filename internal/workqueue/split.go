package workqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// onItsOwn splits the bundle that the delivery was claimed in, if it is in one, so that
// it has a key of its own, or is known to have none.
func (v *Delivery) onItsOwn(ctx context.Context) error {
	if v.in == nil || v.in.gone.Load() {
		return nil
	}
	return v.in.split(ctx)
}

// split puts each delivery of the bundle under its own key, and returns when the outcome
// is known, or ctx or the session ended. Only an ack of all of them, this, and whoever found the session gone take a
// bundle away.
func (b *bundle) split(ctx context.Context) error {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", commit.ErrUnknown, context.Cause(ctx))
	}
	if b.gone.Load() {
		return nil
	}
	txn := b.d.splitTxn(b.key, b.rev, b.shares())
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		r, err := b.d.e.Do(ctx, txn)
		switch {
		case err == nil:
			b.fallApart(r)
			return nil
		case !errors.Is(err, commit.ErrUnknown) && ctx.Err() == nil:
			return err
		case !pause(ctx, b.d.e, delay):
			return fmt.Errorf("%w: %w", commit.ErrUnknown, whyEnded(ctx, b.d))
		}
	}
}

// whyEnded returns why ctx, or else the session, ended.
func whyEnded(ctx context.Context, d *Dock) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return ended(d.e)
}

// stands holds as long as the bundle does, and with it each delivery in it.
func (b *bundle) stands() clientv3.Cmp { return unchanged(b.key, b.rev) }

func (b *bundle) shares() []share {
	all := make([]share, len(b.all))
	for i, v := range b.all {
		all[i] = share{v.ID, v.Rec}
	}
	return all
}

// splitTxn puts the shares of a bundle under keys of their own. They keep their token,
// which is the revision of the bundle. If it was refused it reads them.
func (d *Dock) splitTxn(key string, rev int64, shares []share) commit.Txn {
	t := commit.Txn{Scope: []string{key}, Likely: true, If: []clientv3.Cmp{unchanged(key, rev)}, Then: []clientv3.Op{clientv3.OpDelete(key)}}
	for _, s := range shares {
		out, rec := d.root.outOf(d.lease, s.id), s.rec
		rec.Of = rev
		t.Scope = append(t.Scope, out)
		t.Then = append(t.Then, clientv3.OpPut(out, rec.encode()))
		t.Else = append(t.Else, clientv3.OpGet(out))
	}
	return t
}

// fallApart takes over the answer to a split. A refused one was applied before, in
// doubt, if the keys are there; else the ack of them all was, or somebody else has taken
// the bundle, and a verb on one of them will find nothing.
func (b *bundle) fallApart(r commit.Result) {
	for i, v := range b.all {
		switch {
		case r.Succeeded:
			v.mod.Store(r.Revision)
			v.sure() // an ack of all of them was not applied, and will not be
		default:
			if kv := first(r, i); kv != nil {
				// A later delivery of the item has the same key.
				if rec, err := decode(kv.Value); err == nil && rec.Of == b.rev {
					v.mod.Store(kv.ModRevision)
					v.sure()
				}
			}
		}
	}
	b.gone.Store(true)
}

// bundleAt reads the bundle of a delivery of a session, nil if there is none; opts may say
// at which revision.
func bundleAt(ctx context.Context, c *clientv3.Client, k keys, lease, id string, token int64, opts ...clientv3.OpOption) (*mvccpb.KeyValue, []share, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	under, rev := k.bundlesOf(lease), token>>tokenBits
	resp, err := c.Get(ctx, under, append(opts, clientv3.WithRange(end(under)), clientv3.WithMinModRev(rev), clientv3.WithMaxModRev(rev))...)
	if err != nil {
		return nil, nil, err
	}
	for _, kv := range resp.Kvs { // a claim may make several
		shares, err := decodeBundle(kv.Value)
		if err == nil && slices.ContainsFunc(shares, func(s share) bool { return s.id == id && rev<<tokenBits|int64(s.rec.Index) == token }) {
			return kv, shares, nil
		}
	}
	return nil, nil, nil
}
