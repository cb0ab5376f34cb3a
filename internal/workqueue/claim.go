package workqueue

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/commit"
)

const (
	claimItems = 56 // about what one request claims of items on their own
	maxSpread  = 7  // batches behind the head, when others claim too
)

// errConflict says that somebody else took some of the items.
var errConflict = errors.New("items were claimed by another session")

// concluded returns what a request took. If it did not take all of its batch, or
// nobody knows, the items are tried for one by one.
func (p *puller) concluded(ctx context.Context, t *trial) ([]*Delivery, error) {
	switch {
	case t.err == nil && t.r.Succeeded:
		p.spread /= 2
		if t.last {
			p.leftLine()
		}
		return p.claimedAll(t, t.here, t.r.Revision), nil
	case errors.Is(t.err, commit.ErrUnknown) && t.makesBundles():
		return p.claimAgain(ctx, t)
	case errors.Is(t.err, commit.ErrUnknown):
		return p.claimEach(ctx, t.batch, t.sent, true)
	case t.err != nil:
		return nil, t.err
	case len(t.r.Responses[0].GetResponseRange().GetKvs()) > 0:
		p.paused = true
		return nil, nil
	}
	if here := first(t.r, 1); here == nil || here.CreateRevision != t.here {
		p.here = 0
		return nil, nil
	}
	p.spread = min(2*p.spread+1, maxSpread)
	return p.claimEach(ctx, t.batch, t.sent, false)
}

// chosen is a candidate with the record that its delivery will have.
type chosen struct {
	candidate
	id    string
	out   string // key of the delivery
	rec   Record
	value string
}

// choose takes up to n candidates out of the list: the first ones, or some
// batches behind if others claim at the same time. Items without attempts left,
// and keys that are no item, are put aside.
func (p *puller) choose(n int, cut *cutter) []chosen {
	from := 0
	if step := min(n, claimItems); p.spread > 0 && n > 0 {
		from = min(rand.IntN(p.spread+1)*step, max(len(p.cands)-step, 0))
	}
	batch := make([]chosen, 0, max(min(n, len(p.cands)-from), 0))
	bytes, i := 0, from
	for ; i < len(p.cands) && len(batch) < n; i++ {
		c := p.cands[i]
		if len(batch) > 0 && bytes+len(c.value) > maxBatch {
			break
		}
		rec, err := decode(c.value)
		switch {
		case err != nil:
			p.broken = append(p.broken, c)
			continue
		case rec.Attempts >= p.d.cfg.MaxAttempts:
			p.spent = append(p.spent, c)
			continue
		}
		if rec.Order == 0 {
			rec.Order = c.create
		}
		rec.Attempts, rec.Index = rec.Attempts+1, len(batch)
		id := idOf(c.key)
		item := chosen{candidate: c, id: id, out: p.d.root.outOf(p.d.lease, id), rec: rec, value: rec.encode()}
		if !cut.add(len(batch), &item) {
			break
		}
		bytes += len(c.value)
		batch = append(batch, item)
	}
	if from == 0 {
		p.cands = p.cands[i:]
	} else {
		p.cands = append(p.cands[:from:from], p.cands[i:]...)
	}
	return batch
}

func (p *puller) guards() []clientv3.Cmp {
	k := p.d.root
	return []clientv3.Cmp{absent(k.paused()), clientv3.Compare(clientv3.CreateRevision(k.here(p.d.lease)), "=", p.here)}
}

// scopes of a claim: the items. Nobody else of this session moves them.
func scopes(batch []chosen) []string {
	s := make([]string, len(batch))
	for i, c := range batch {
		s[i] = c.key
	}
	return s
}

// moves appends what claims one item.
func (p *puller) moves(ops []clientv3.Op, c *chosen) []clientv3.Op {
	ops = append(ops, clientv3.OpDelete(c.key), clientv3.OpPut(c.out, c.value))
	if p.d.e.Borrowed() {
		ops = append(ops, p.d.deadline(c.id, p.d.cfg.Visibility))
	}
	return ops
}

// claimTxn claims all items or none.
func (p *puller) claimTxn(t *trial) commit.Txn {
	k := p.d.root
	txn := commit.Txn{Scope: scopes(t.batch), Likely: true, If: p.guards(),
		Else: []clientv3.Op{clientv3.OpGet(k.paused()), clientv3.OpGet(k.here(p.d.lease))}}
	txn.If = slices.Grow(txn.If, len(t.batch)) // large ones: to grow shows in profiles
	txn.Then = make([]clientv3.Op, 0, claimOps+1)
	for i := range t.batch {
		txn.If = append(txn.If, unchanged(t.batch[i].key, t.batch[i].mod))
	}
	for _, part := range t.parcels {
		its := t.batch[part.from:part.to]
		if part.key == "" {
			txn.Then = p.moves(txn.Then, &its[0])
			continue
		}
		for i := range its {
			txn.Then = append(txn.Then, clientv3.OpDelete(its[i].key))
		}
		txn.Then = append(txn.Then, clientv3.OpPut(part.key, encodeBundle(its)))
	}
	if t.last && p.place != "" {
		txn.Then = append(txn.Then, clientv3.OpDelete(p.place))
	}
	return txn
}

// claimEachTxn claims the items that are still there.
func (p *puller) claimEachTxn(batch []chosen) commit.Txn {
	k := p.d.root
	t := commit.Txn{Scope: scopes(batch), If: p.guards(),
		Else: []clientv3.Op{clientv3.OpGet(k.paused()), clientv3.OpGet(k.here(p.d.lease))}}
	for i := range batch {
		c := &batch[i]
		t.Then = append(t.Then, clientv3.OpTxn([]clientv3.Cmp{unchanged(c.key, c.mod)}, p.moves(nil, c),
			[]clientv3.Op{clientv3.OpGet(c.out)}))
	}
	return t
}

// claimed makes deliveries of a batch; took tells of each item whether it was
// claimed, and at which revision.
func (p *puller) claimed(batch []chosen, here int64, sent clock.Stamp, took func(i int) (bool, int64)) []*Delivery {
	all := make([]*Delivery, 0, len(batch))
	for i := range batch {
		c := &batch[i]
		if ok, rev := took(i); ok && p.d.puts.outs.add(c.out, rev, p.d.e.Borrowed()) {
			all = append(all, p.d.delivery(c.id, c.rec, rev, here, sent))
		}
	}
	return all
}

// claimedAll makes deliveries, and bundles, of a claim that was applied.
func (p *puller) claimedAll(t *trial, here, rev int64) []*Delivery {
	all := make([]*Delivery, 0, len(t.batch))
	for _, part := range t.parcels {
		if part.key != "" {
			all = append(all, p.bundleOf(t, part, here, rev)...)
			continue
		}
		all = append(all, p.claimed(t.batch[part.from:part.to], here, t.sent, func(int) (bool, int64) { return true, rev })...)
	}
	return all
}

// bundleOf makes the deliveries of a bundle that was claimed at a revision.
func (p *puller) bundleOf(t *trial, part parcel, here, rev int64) []*Delivery {
	all := make([]*Delivery, 0, part.items())
	for _, c := range t.batch[part.from:part.to] {
		all = append(all, p.d.delivery(c.id, c.rec, rev, here, t.sent))
	}
	p.d.bind(part.key, rev, all)
	return all
}
