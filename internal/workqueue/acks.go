package workqueue

import (
	"context"
	"errors"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// ackItems is how many deliveries one transaction acks: two operations each for a
// session that hosts serve, and room for others beside them.
const ackItems = 48

// AckAll acks deliveries, each by itself, and returns of each what Ack would. As
// far as possible some dozens share a transaction, which acks all of them or none;
// after a refusal each has its own.
func AckAll(ctx context.Context, all []*Delivery) []error {
	errs := make([]error, len(all))
	var plain, rest []int
	for n, v := range all {
		if v.Rec.Group == "" && v.d == all[0].d {
			plain = append(plain, n)
		} else {
			rest = append(rest, n)
		}
	}
	var running sync.WaitGroup
	alone := func(n int) { running.Go(func() { errs[n] = all[n].Ack(ctx, nil) }) }
	for batch := range slices.Chunk(plain, ackItems) {
		running.Go(func() {
			settled, err := all[0].d.ackTogether(ctx, pickedOf(all, batch))
			for _, n := range batch {
				if errs[n] = err; !settled {
					alone(n)
				}
			}
		})
	}
	for _, n := range rest {
		alone(n)
	}
	running.Wait()
	return errs
}

func pickedOf(all []*Delivery, batch []int) []*Delivery {
	vs := make([]*Delivery, len(batch))
	for i, n := range batch {
		vs[i] = all[n]
	}
	return vs
}

// ackTogether acks all of vs or none. It reports false if that was refused, or
// another try is due: then each is to be acked by itself.
func (d *Dock) ackTogether(ctx context.Context, vs []*Delivery) (settled bool, err error) {
	if len(vs) < 2 || !d.e.Enter() {
		return false, nil
	}
	defer d.e.Leave()
	mine := vs
	if busy := slices.IndexFunc(vs, func(v *Delivery) bool { return !v.settle() }); busy >= 0 {
		mine = vs[:busy]
	}
	defer func() {
		for _, v := range mine {
			v.settled()
		}
	}()
	if len(mine) < len(vs) {
		return false, nil
	}
	r, err := d.e.Do(ctx, d.ackTxn(vs))
	switch {
	case err == nil && r.Succeeded:
		for _, v := range vs {
			v.end(d.cfg.Released)
		}
		return true, nil
	case errors.Is(err, commit.ErrUnknown):
		for _, v := range vs {
			v.unsure()
		}
		return ctx.Err() != nil, err
	}
	return false, nil
}

// ackTxn acks all of vs.
func (d *Dock) ackTxn(vs []*Delivery) commit.Txn {
	t := commit.Txn{Likely: true, Scope: make([]string, 0, len(vs)), If: make([]clientv3.Cmp, 0, len(vs)), Then: make([]clientv3.Op, 0, 2*len(vs))}
	for _, v := range vs {
		t.Scope, t.If, t.Then = append(t.Scope, v.key), append(t.If, v.IsOwner()), append(t.Then, clientv3.OpDelete(v.key))
		if d.e.Borrowed() {
			t.Then = append(t.Then, clientv3.OpDelete(d.root.untilOf(d.lease, v.ID)))
		}
	}
	return t
}

// unsure notes that an ack of unknown outcome was sent.
func (v *Delivery) unsure() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.doubt = true
}
