package workqueue

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// Destroy deletes whatever is in a queue, page by page, and then removes it; whoever
// consumes it goes on, with nothing. It returns what was deleted, also with an error:
// ErrNotThere, ErrInUse with ctx's cause if producers are quicker, or commit.ErrUnknown.
//
// Between its pages the queue is whole: nothing is left blocked by what is gone, and an
// ack finds its delivery, or finds that it is over.
func (a Admin) Destroy(ctx context.Context) (Dropped, error) {
	var d Dropped
	u, err := a.Use(ctx)
	if err != nil {
		return d, err
	}
	if !u.there() {
		return d, ErrNotThere
	}
	for ctx.Err() == nil {
		items, err := a.root.dropAll(ctx, a)
		if d.Items += items; err != nil {
			return d, err
		}
		dead, err := a.root.dead().dropAll(ctx, a)
		if d.Dead += dead; err != nil {
			return d, err
		}
		if err := a.forget(ctx); err != nil {
			return d, err
		}
		done, err := a.remove(ctx, false)
		if err != nil || done {
			return d, err
		}
	}
	return d, fmt.Errorf("%w: items come as fast as they are deleted: %w", ErrInUse, context.Cause(ctx))
}

// dropAll deletes the items that there are: first those behind others of their groups,
// so that none of them comes forward.
func (k keys) dropAll(ctx context.Context, a Admin) (int, error) {
	n := 0
	for _, place := range []string{k.nexts(), k.asked(), k.lanes(), k.front(), k.later(), k.out(), k.bundles()} {
		for {
			dropped, found, err := k.dropSome(ctx, a, place)
			if n += dropped; err != nil {
				return n, err
			}
			if !found {
				break
			}
		}
	}
	return n, nil
}

// dropSome deletes some of the items in a place. It returns how many, and whether it
// found any: others may have taken those away.
func (k keys) dropSome(ctx context.Context, a Admin, place string) (n int, found bool, err error) {
	resp, err := read(ctx, a.e, all(place, clientv3.WithLimit(dropPage), clientv3.WithKeysOnly()))
	if err != nil {
		return 0, false, err
	}
	page := resp.Responses[0].GetResponseRange().GetKvs()
	if len(page) == 0 {
		return 0, false, nil
	}
	if place == k.bundles() {
		n, err = k.dropEach(ctx, a, place)
		return n, true, err
	}
	if place == k.out() {
		page = oneSession(page)
	}
	t := commit.Txn{Then: k.dropping(place, page)}
	if place != k.nexts() && place != k.asked() {
		t.If = []clientv3.Cmp{nothingUnder(k.busies())}
	}
	r, err := alone(ctx, a.e, t)
	if err != nil {
		return 0, false, err
	}
	if r.Succeeded {
		return int(r.Responses[0].GetResponseDeleteRange().GetDeleted()), true, nil
	}
	n, err = k.dropEach(ctx, a, place)
	return n, true, err
}

// dropping returns what deletes everything from the first key of a page to its last. An
// ack of a delivery that is gone without one must not be taken for done, which it would
// be while its session's key stands.
func (k keys) dropping(place string, page []*mvccpb.KeyValue) []clientv3.Op {
	from, to := string(page[0].Key), string(page[len(page)-1].Key)+"\x00"
	ops := []clientv3.Op{clientv3.OpDelete(from, clientv3.WithRange(to))}
	switch place {
	case k.bundles():
		ops = append(ops, clientv3.OpDelete(k.here(leaseIn(place, from))))
	case k.out():
		ops = append(ops, clientv3.OpDelete(k.here(leaseIn(place, from))),
			clientv3.OpDelete(k.until()+strings.TrimPrefix(from, place), clientv3.WithRange(k.until()+strings.TrimPrefix(to, place))))
	}
	return ops
}

// leaseIn returns the lease in the key of what was delivered, as text.
func leaseIn(place, key string) string {
	lease, _, _ := strings.Cut(strings.TrimPrefix(key, place), "/")
	return lease
}

// oneSession returns those deliveries at the beginning of a page that are of one session.
func oneSession(page []*mvccpb.KeyValue) []*mvccpb.KeyValue {
	of := func(kv *mvccpb.KeyValue) string {
		return string(kv.Key[:bytes.LastIndexByte(kv.Key, '/')])
	}
	for i := range page {
		if of(page[i]) != of(page[0]) {
			return page[:i]
		}
	}
	return page
}

// dropEach deletes items one by one, while there are groups: each lets the next of its
// group in, who is dropped in its turn. Bundles go one by one too, since their keys tell
// how many items they are. It returns how many it has deleted.
func (k keys) dropEach(ctx context.Context, a Admin, place string) (int, error) {
	resp, err := read(ctx, a.e, all(place, clientv3.WithLimit(dropRead)))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, kv := range resp.Responses[0].GetResponseRange().GetKvs() {
		deleted, err := k.dropOne(ctx, a, place, kv)
		if err != nil {
			return n, err
		}
		if deleted {
			n += k.bundled(string(kv.Key))
		}
	}
	return n, nil
}

// dropOne deletes an item, and reports false if it has moved on.
func (k keys) dropOne(ctx context.Context, a Admin, place string, kv *mvccpb.KeyValue) (bool, error) {
	rec, unreadable := decode(kv.Value)
	for {
		t := commit.Txn{If: []clientv3.Cmp{unchanged(string(kv.Key), kv.ModRevision)}, Then: k.dropping(place, []*mvccpb.KeyValue{kv}),
			Else: []clientv3.Op{clientv3.OpGet(string(kv.Key))}}
		if unreadable == nil && rec.Group != "" {
			cmps, ops, err := k.advance(ctx, a.e, rec.Group)
			if err != nil {
				return false, err
			}
			t.If, t.Then = append(t.If, cmps...), append(t.Then, ops...)
		}
		r, err := alone(ctx, a.e, t)
		if err != nil || r.Succeeded {
			return err == nil, err
		}
		if now := first(r, 0); now == nil || now.ModRevision != kv.ModRevision {
			return false, nil
		}
	}
}

// forget deletes dedup keys until the removal can take the rest. Producers must notice:
// one that repeats an enqueue relies on the key of its first try.
func (a Admin) forget(ctx context.Context) error {
	for {
		resp, err := read(ctx, a.e, all(a.root.dedups(), clientv3.WithLimit(maxForgotten), clientv3.WithKeysOnly()))
		if err != nil {
			return err
		}
		r := resp.Responses[0].GetResponseRange()
		if !r.GetMore() {
			return nil
		}
		last := string(r.GetKvs()[dropPage-1].Key) + "\x00"
		if _, err := alone(ctx, a.e, commit.Txn{Then: []clientv3.Op{
			clientv3.OpDelete(a.root.dedups(), clientv3.WithRange(last)), clientv3.OpPut(a.root.removed(), "")}}); err != nil {
			return err
		}
	}
}
