package workqueue

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/commit"
)

const (
	claimItems = 56 // of one request: two operations each, and some more
	maxTrials  = 2  // requests at once
	maxSpread  = 7  // batches behind the head, when others claim too
)

// errConflict says that somebody else took some of the items.
var errConflict = errors.New("items were claimed by another session")

// trial is one request of a claim, and how it went.
type trial struct {
	batch []chosen
	last  bool  // it gives up the place in line
	here  int64 // that it was guarded by
	r     commit.Result
	err   error
}

// claim takes up to want of the candidates, hands them on, and returns how many
// they were. The candidates that are left are those that it did not try for. The
// place in line is given up with the claim if it satisfies everybody who waits
// here. Who wants many gets them by several requests at once.
func (p *puller) claim(ctx context.Context, want int) (int, error) {
	most := claimItems
	if p.d.e.Borrowed() {
		most = claimItems * 2 / 3 // which have a third operation
	}
	var trials []*trial
	for want > 0 && len(trials) < maxTrials {
		batch := p.choose(min(want, most))
		if len(batch) == 0 {
			break
		}
		want -= len(batch)
		trials = append(trials, &trial{batch: batch, last: want == 0, here: p.here})
	}
	sent := clock.Now()
	p.try(ctx, trials)
	n := 0
	var errs []error
	for _, t := range trials {
		all, err := p.concluded(ctx, t, sent)
		p.d.serve(all)
		n, errs = n+len(all), append(errs, err)
	}
	return n, errors.Join(errs...)
}

// try sends the requests, and waits for their answers.
func (p *puller) try(ctx context.Context, trials []*trial) {
	var others sync.WaitGroup
	for i, t := range trials {
		txn := p.claimTxn(t.batch, t.last)
		if i == len(trials)-1 {
			t.r, t.err = p.d.e.Do(ctx, txn)
			break
		}
		others.Go(func() { t.r, t.err = p.d.e.Do(ctx, txn) })
	}
	others.Wait()
}

// concluded returns what a request took. If it did not take all of its batch, or
// nobody knows, the items are tried for one by one.
func (p *puller) concluded(ctx context.Context, t *trial, sent clock.Stamp) ([]*Delivery, error) {
	switch {
	case t.err == nil && t.r.Succeeded:
		p.spread /= 2
		if t.last {
			p.leftLine()
		}
		return p.claimed(t.batch, t.here, sent, func(int) (bool, int64) { return true, t.r.Revision }), nil
	case errors.Is(t.err, commit.ErrUnknown):
		return p.claimEach(ctx, t.batch, sent, true)
	case t.err != nil:
		return nil, t.err
	case len(t.r.Responses[0].GetResponseRange().GetKvs()) > 0:
		p.scan.paused = true
		return nil, nil
	}
	if here := first(t.r, 1); here == nil || here.CreateRevision != t.here {
		p.here = 0
		return nil, nil
	}
	p.spread = min(2*p.spread+1, maxSpread)
	return p.claimEach(ctx, t.batch, sent, false)
}

// claimEach takes items one by one in one transaction. If the outcome of an
// earlier request is unknown it is sent until that is settled: an item that the
// earlier one took stands as a delivery of this session, which nobody else makes.
func (p *puller) claimEach(ctx context.Context, batch []chosen, sent clock.Stamp, unknown bool) ([]*Delivery, error) {
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := p.arrive(ctx)
		var r commit.Result
		if err == nil {
			r, err = p.d.e.Do(ctx, p.claimEachTxn(batch))
		}
		switch {
		case err == nil && !r.Succeeded:
			if here := first(r, 1); here == nil || here.CreateRevision != p.here {
				if p.here = 0; !unknown {
					return nil, nil
				}
				// Somebody deleted the key: no earlier request can be applied any more, but
				// what one has taken would stand beside the next key, and be nobody's.
				break
			}
			if p.scan.paused = true; !unknown { // else one of them may be applied after the pause
				return nil, nil
			}
		case err == nil:
			all := p.claimed(batch, p.here, sent, func(i int) (bool, int64) {
				n := r.Nested(i)
				if n.Succeeded || !unknown {
					return n.Succeeded, r.Revision
				}
				kv := first(n, 0)
				if kv == nil || p.d.has(batch[i].key, kv.ModRevision) {
					return false, 0
				}
				return true, kv.ModRevision
			})
			if len(all) < len(batch) {
				return all, errConflict
			}
			return all, nil
		case errors.Is(err, commit.ErrUnknown):
			unknown = true
		case !passing(err):
			return nil, err
		}
		if !pause(ctx, p.d.e, delay) {
			return nil, ended(p.d.e)
		}
	}
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
func (p *puller) choose(n int) []chosen {
	from := 0
	if p.spread > 0 && n > 0 {
		from = min(rand.IntN(p.spread+1)*n, max(len(p.cands)-n, 0))
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
		bytes += len(c.value)
		id := idOf(c.key)
		batch = append(batch, chosen{candidate: c, id: id, out: p.d.root.outOf(p.d.lease, id), rec: rec, value: rec.encode()})
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
func (p *puller) claimTxn(batch []chosen, last bool) commit.Txn {
	k := p.d.root
	t := commit.Txn{Scope: scopes(batch), Likely: true, If: p.guards(),
		Else: []clientv3.Op{clientv3.OpGet(k.paused()), clientv3.OpGet(k.here(p.d.lease))}}
	t.If = slices.Grow(t.If, len(batch)) // large ones: to grow shows in profiles
	t.Then = make([]clientv3.Op, 0, 3*len(batch)+1)
	for i := range batch {
		c := &batch[i]
		t.If = append(t.If, unchanged(c.key, c.mod))
		t.Then = p.moves(t.Then, c)
	}
	if last && p.place != "" {
		t.Then = append(t.Then, clientv3.OpDelete(p.place))
	}
	return t
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
	for i, c := range batch {
		if ok, rev := took(i); ok {
			all = append(all, &Delivery{d: p.d, ID: c.id, Rec: c.rec, key: c.out, rev: rev, here: here, at: sent, lasts: p.d.cfg.Visibility})
		}
	}
	return all
}
