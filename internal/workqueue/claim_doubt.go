package workqueue

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/commit"
)

// claimAgain repeats a claim of unknown outcome that makes bundles, until that is
// settled: a bundle that stands was made by one of the tries, and a delivery by this
// session. Each is looked for, since others may have taken one of them while the
// session's key was gone. If none stands the first try will not be applied any more once
// an item has changed: then the items are tried for one by one.
func (p *puller) claimAgain(ctx context.Context, t *trial) ([]*Delivery, error) {
	t.last = false // whether the place in line is given up does not matter
	for delay := 20 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		err := p.arrive(ctx)
		var r commit.Result
		if err == nil {
			r, err = p.d.e.Do(ctx, p.claimAgainTxn(t))
		}
		switch {
		case err == nil && r.Succeeded:
			return p.claimedAll(t, p.here, r.Revision), nil
		case err == nil:
			if here := first(r, 1); here == nil || here.CreateRevision != p.here {
				p.here = 0 // what the first try made would stand beside the next key
				break
			}
			switch all := p.made(t, r); len(all) {
			case len(t.batch):
				return all, nil
			case 0:
			default:
				return all, errConflict
			}
			if p.paused = first(r, 0) != nil; !p.paused {
				return p.claimEach(ctx, t.batch, t.sent, false)
			}
			p.d.refuse(ErrEmpty, true) // the first try may be applied after the pause
		case !passing(err) && p.d.e.LeaseGone(ctx):
			return nil, ended(p.d.e)
		case !passing(err):
			p.d.refuse(err, false) // who waits; what the first try took may stand all the same
		}
		if !pause(ctx, p.d.e, delay) {
			return nil, ended(p.d.e)
		}
	}
}

// claimAgainTxn is the claim, and reads what it would have made if it is refused.
func (p *puller) claimAgainTxn(t *trial) commit.Txn {
	txn := p.claimTxn(t)
	for _, part := range t.parcels {
		if part.key == "" {
			txn.Else = append(txn.Else, clientv3.OpGet(t.batch[part.from].out))
		} else {
			txn.Else = append(txn.Else, clientv3.OpGet(part.key, clientv3.WithKeysOnly()))
		}
	}
	return txn
}

// made returns the deliveries of a claim that stand, by the answer to its repetition.
func (p *puller) made(t *trial, r commit.Result) (all []*Delivery) {
	for i, part := range t.parcels {
		kv := first(r, 2+i)
		switch {
		case kv == nil:
		case part.key != "":
			all = append(all, p.bundleOf(t, part, p.here, kv.ModRevision)...)
		default:
			c := t.batch[part.from : part.from+1]
			all = append(all, p.claimed(c, p.here, t.sent, func(int) (bool, int64) { return p.found(&c[0], kv) })...)
		}
	}
	return all
}

// claimEach takes items one by one in one transaction. If the outcome of an
// earlier request is unknown it is sent until that is settled: an item that the
// earlier one took stands as a delivery of this session, which no other session makes.
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
			if p.paused = true; !unknown {
				return nil, nil
			}
			p.d.refuse(ErrEmpty, true) // one of them may be applied after the pause
		case err == nil:
			all := p.claimed(batch, p.here, sent, func(i int) (bool, int64) {
				n := r.Nested(i)
				if n.Succeeded || !unknown {
					return n.Succeeded, r.Revision
				}
				return p.found(&batch[i], first(n, 0))
			})
			if len(all) < len(batch) {
				return all, errConflict
			}
			return all, nil
		case errors.Is(err, commit.ErrUnknown):
			unknown = true
		case passing(err):
		case !unknown:
			return nil, err
		case p.d.e.LeaseGone(ctx):
			return nil, ended(p.d.e)
		default:
			p.d.refuse(err, false) // who waits; what an earlier request took may stand all the same
		}
		if !pause(ctx, p.d.e, delay) {
			return nil, ended(p.d.e)
		}
	}
}

// found tells of a delivery that stands under the key of one that was tried for, in
// doubt, whether it is the item's claim.
func (p *puller) found(c *chosen, kv *mvccpb.KeyValue) (bool, int64) {
	if kv == nil || p.d.has(c.key, kv.ModRevision) {
		return false, 0
	}
	rec, err := decode(kv.Value)
	if err != nil || rec.Of != 0 { // of a bundle, that other consumers of the session took
		return false, 0
	}
	c.rec = rec
	return true, kv.ModRevision
}
