package workqueue

import (
	"context"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// Stats are counts of a queue's items, all at one revision.
type Stats struct {
	Ready    int // could be delivered now
	Delayed  int
	Delivery int // delivered and not settled
	Grouped  int // behind another item of their group
	Asked    int // asked for by another transaction, and not yet in place
	Dead     int
	Paused   bool
	Oldest   time.Time // when the item that is next was enqueued, by its producer's clock; zero if there is none
	Waiting  int       // sessions that wait for items
}

// An Admin reads and changes a queue as a whole.
type Admin struct {
	e      *engine.Engine
	root   keys
	listed string
}

// AdminFor returns the Admin of the queue at root.
func AdminFor(e *engine.Engine, root, listed string) Admin { return Admin{e, keys(root), listed} }

// Stats counts. It costs etcd a walk over its index of the queue's keys.
func (a Admin) Stats(ctx context.Context) (Stats, error) {
	k := a.root
	only := clientv3.WithCountOnly()
	resp, err := read(ctx, a.e, clientv3.OpGet(k.front(), clientv3.WithRange(end(k.lanes())), only), k.count(k.later()),
		k.count(k.out()), k.count(k.bundles()), k.count(k.nexts()), k.count(k.asked()), k.dead().count(k.dead().front()),
		clientv3.OpGet(k.paused(), only), k.count(k.idles()))
	if err != nil {
		return Stats{}, err
	}
	n := func(i int) int { return k.items(resp.Responses[i]) }
	s := Stats{Ready: n(0), Delayed: n(1), Delivery: n(2) + n(3), Grouped: n(4), Asked: n(5), Dead: n(6), Paused: n(7) > 0, Waiting: n(8)}
	if s.Ready > 0 {
		first, err := a.Peek(ctx, 1)
		if err != nil {
			return s, err
		}
		if len(first) > 0 {
			s.Oldest = time.UnixMilli(first[0].Rec.At)
		}
	}
	return s, nil
}

// Len counts everything that was neither acked nor made a dead letter.
func (a Admin) Len(ctx context.Context) (int, error) {
	resp, err := read(ctx, a.e, a.root.counts()...)
	if err != nil {
		return 0, err
	}
	return a.root.items(resp.Responses...), nil
}

// A Seen is an item that was looked at.
type Seen struct {
	ID  string
	Rec Record
	key string
	mod int64
}

// Peek returns up to n items that are next, in their order. A change meanwhile may
// hide an item, or show it twice: this is a look, not a claim.
func (a Admin) Peek(ctx context.Context, n int) ([]Seen, error) {
	var seen []Seen
	s := scanner{root: a.root}
	found, err := s.look(ctx, a.e, n)
	for {
		if err != nil {
			return nil, err
		}
		next, rest := s.sure(found)
		for _, c := range next {
			if rec, err := decode(c.value); err == nil {
				seen = append(seen, Seen{ID: idOf(c.key), Rec: rec, key: c.key, mod: c.mod})
			}
		}
		if len(seen) >= n || !s.partial() {
			return seen[:min(n, len(seen))], nil
		}
		found, err = s.further(ctx, a.e, rest)
	}
}

// further reads on where the last look ended, and adds that to the rest of what it
// has found.
func (s *scanner) further(ctx context.Context, e *engine.Engine, rest []candidate) ([]candidate, error) {
	b, fronts := s.unread(), s.front != nil
	var ops []clientv3.Op
	if fronts {
		ops = append(ops, clientv3.OpGet(s.front.key+"\x00", clientv3.WithRange(end(s.root.front())), clientv3.WithLimit(frontLimit)))
	}
	if b != "" {
		h := s.lanes[b]
		ops = append(ops, clientv3.OpGet(s.root.segment(b, h.upto), clientv3.WithRange(s.root.segment(b, h.upto+maxWindow))))
		h.upto += maxWindow
	}
	resp, err := read(ctx, e, ops...)
	if err != nil {
		return nil, err
	}
	found := slices.Clone(rest)
	for i, r := range resp.Responses {
		if kvs := r.GetResponseRange().GetKvs(); i == 0 && fronts {
			found = append(found, s.fronts(kvs)...)
		} else {
			found = s.collect(found, kvs)
		}
	}
	slices.SortFunc(found, byOrder)
	return found, nil
}

// Pause keeps items from being delivered: none is once it returns.
func (a Admin) Pause(ctx context.Context) error {
	_, err := a.e.Do(ctx, commit.Txn{Scope: []string{a.root.paused()}, Then: []clientv3.Op{clientv3.OpPut(a.root.paused(), "")}})
	return err
}

// Resume lets items be delivered again.
func (a Admin) Resume(ctx context.Context) error {
	_, err := a.e.Do(ctx, commit.Txn{Scope: []string{a.root.paused(), a.root.woken()},
		Then: []clientv3.Op{clientv3.OpDelete(a.root.paused()), clientv3.OpPut(a.root.woken(), "")}})
	return err
}

// Dead reads up to n dead letters that come after the cursor, "" for the first
// ones, and returns the cursor for the next ones, "" if there are none.
func (a Admin) Dead(ctx context.Context, cursor string, n int) ([]Seen, string, error) {
	prefix := a.root.dead().front()
	if cursor != "" && !strings.HasPrefix(cursor, prefix) {
		cursor = ""
	}
	from := prefix
	if cursor != "" {
		from = cursor + "\x00"
	}
	resp, err := read(ctx, a.e, clientv3.OpGet(from, clientv3.WithRange(end(prefix)), clientv3.WithLimit(int64(n))))
	if err != nil {
		return nil, "", err
	}
	var seen []Seen
	next := ""
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	for _, kv := range kvs {
		rec, err := decode(kv.Value)
		if err != nil {
			rec = Record{Codec: "bytes", Payload: kv.Value, Reason: err.Error()}
		}
		seen = append(seen, Seen{ID: idOf(string(kv.Key)), Rec: rec, key: string(kv.Key), mod: kv.ModRevision})
		next = string(kv.Key)
	}
	if len(kvs) < n {
		next = ""
	}
	return seen, next, nil
}

// Revive puts a dead letter back into its queue, to the front and with no
// attempts. It reports false if it is gone.
func (a Admin) Revive(ctx context.Context, s Seen) (bool, error) {
	rec := s.Rec
	rec.Attempts, rec.Reason, rec.Group = 0, "", ""
	for {
		resp, err := read(ctx, a.e, clientv3.OpGet(a.root.fill()))
		if err != nil {
			return false, err
		}
		f := first(commit.Result{Responses: resp.Responses}, 0)
		t := commit.Txn{Scope: []string{s.key, string(a.root)}, If: []clientv3.Cmp{unchanged(s.key, s.mod)},
			Then: []clientv3.Op{clientv3.OpDelete(s.key), a.root.back(s.ID, rec, 0)}, Else: []clientv3.Op{clientv3.OpGet(s.key)}}
		t.If, t.Then = a.root.grow(f, t.If, t.Then)
		r, err := a.e.Do(ctx, t)
		if err != nil || r.Succeeded {
			return r.Succeeded, err
		}
		if kv := first(r, 0); kv == nil || kv.ModRevision != s.mod {
			return false, nil
		}
	}
}

// grow counts one more item of a bounded queue.
func (k keys) grow(f *mvccpb.KeyValue, cmps []clientv3.Cmp, ops []clientv3.Op) ([]clientv3.Cmp, []clientv3.Op) {
	if f == nil {
		return append(cmps, absent(k.fill())), ops
	}
	return append(cmps, unchanged(k.fill(), f.ModRevision)), append(ops, clientv3.OpPut(k.fill(), decimal(number(f.Value)+1)))
}

// Drop deletes a dead letter. It reports false if it is gone.
func (a Admin) Drop(ctx context.Context, s Seen) (bool, error) {
	r, err := a.e.Do(ctx, commit.Txn{Scope: []string{s.key}, If: []clientv3.Cmp{unchanged(s.key, s.mod)},
		Then: []clientv3.Op{clientv3.OpDelete(s.key)}})
	return r.Succeeded, err
}

// ListQueues returns the names of a namespace's queues that begin with prefix, as
// far as they were ever enqueued into.
func ListQueues(ctx context.Context, c *clientv3.Client, namespace, prefix string) ([]string, error) {
	under := Names(namespace)
	resp, err := c.Get(ctx, under, clientv3.WithRange(end(under)), clientv3.WithKeysOnly())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, kv := range resp.Kvs { // a key that is no name is nobody's queue
		name, err := keyspace.Unescape(strings.TrimPrefix(string(kv.Key), under))
		if err == nil && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, nil
}
