package workqueue

import (
	"context"
	"errors"
	"slices"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// ackKeys is how many keys of deliveries one transaction acks: two operations each for
// a session that hosts serve, and room for others beside them.
const ackKeys = 48

// AckAll acks deliveries, each by itself, and returns of each what Ack would. As
// far as possible some dozens share a transaction, which acks all of them or none;
// after a refusal each has its own.
func AckAll(ctx context.Context, all []*Delivery) []error {
	errs := make([]error, len(all))
	var running sync.WaitGroup
	alone := func(n int) { running.Go(func() { errs[n] = all[n].Ack(ctx, nil) }) }
	var together func(d *Dock, keys []ackKey)
	together = func(d *Dock, keys []ackKey) {
		settled, err := d.ackTogether(ctx, all, keys)
		for _, k := range keys {
			for _, n := range k.at {
				errs[n] = err
			}
			switch {
			case settled:
			case len(keys) > 1 && k.of != nil:
				running.Go(func() { together(d, []ackKey{k}) })
			default:
				for _, n := range k.at {
					alone(n)
				}
			}
		}
	}
	plain := make(map[*Dock][]int)
	for n, v := range all {
		if v.Rec.Group == "" {
			plain[v.d] = append(plain[v.d], n)
		} else {
			alone(n)
		}
	}
	for d, ns := range plain {
		running.Go(func() {
			keys, rest := byKey(ctx, all, ns)
			for _, n := range rest {
				alone(n)
			}
			for some := range slices.Chunk(keys, ackKeys) {
				running.Go(func() { together(d, some) })
			}
		})
	}
	running.Wait()
	return errs
}

// ackKey is a key that holds deliveries of which all are to be acked.
type ackKey struct {
	key    string
	stands clientv3.Cmp
	of     *bundle // nil for a delivery on its own
	at     []int
}

// byKey gathers deliveries by their keys. Bundles of which some are missing are split;
// if that fails, theirs are to be acked each by itself, and will tell why.
func byKey(ctx context.Context, all []*Delivery, ns []int) (keys []ackKey, alone []int) {
	bundles := make(map[*bundle][]int)
	for _, n := range ns {
		if b := all[n].in; b != nil && !b.gone.Load() {
			bundles[b] = append(bundles[b], n)
		}
	}
	var splits sync.WaitGroup
	for b, at := range bundles {
		if len(at) != len(b.all) {
			splits.Go(func() { _ = b.split(ctx) })
		}
	}
	splits.Wait()
	for _, n := range ns {
		v := all[n]
		at := bundles[v.in]
		switch whole := at != nil && len(at) == len(v.in.all); {
		case whole && at[0] == n:
			keys = append(keys, ackKey{key: v.in.key, stands: v.in.stands(), of: v.in, at: at})
		case whole:
		case at == nil || v.in.gone.Load():
			keys = append(keys, ackKey{key: v.key, stands: v.stands(), at: []int{n}})
		default:
			alone = append(alone, n)
		}
	}
	return keys, alone
}

// ackTogether acks what is under all of these keys, or nothing. It reports false if that
// was refused, or another try is due: then each is to be acked by itself.
func (d *Dock) ackTogether(ctx context.Context, all []*Delivery, keys []ackKey) (settled bool, err error) {
	var vs []*Delivery
	for _, k := range keys {
		for _, n := range k.at {
			vs = append(vs, all[n])
		}
	}
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
	if len(mine) < len(vs) { // also if one is there twice
		return false, nil
	}
	r, err := d.e.Do(ctx, d.ackTxn(keys))
	switch {
	case err == nil && r.Succeeded:
		for _, k := range keys {
			if k.of != nil {
				k.of.gone.Store(true)
			}
		}
		for _, v := range vs {
			v.sure()
			v.end(d.cfg.Released)
		}
		return true, nil
	case errors.Is(err, commit.ErrUnknown):
		for _, v := range vs {
			v.unsure(plainAck)
		}
		return ctx.Err() != nil, err
	}
	return false, nil
}

// ackTxn acks all that the keys hold.
func (d *Dock) ackTxn(keys []ackKey) commit.Txn {
	t := commit.Txn{Likely: true, Scope: make([]string, 0, len(keys)), If: make([]clientv3.Cmp, 0, len(keys)), Then: make([]clientv3.Op, 0, 2*len(keys))}
	for _, k := range keys {
		t.Scope, t.If, t.Then = append(t.Scope, k.key), append(t.If, k.stands), append(t.Then, clientv3.OpDelete(k.key))
		if d.e.Borrowed() {
			t.Then = append(t.Then, clientv3.OpDelete(d.root.untilOf(d.lease, idOf(k.key))))
		}
	}
	return t
}
