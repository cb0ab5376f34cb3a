package workqueue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

const (
	tickEvery   = time.Second
	tickItems   = 60 // of each sort, at a time
	tickBundles = 8
	returned    = "returned"
)

// tick moves what moves by time: delays that are over, what dead sessions left,
// deliveries of served sessions, what other transactions asked for. Everybody
// who waits for items does it, about once a second: two that do it at once do no
// harm, since each step is guarded.
func (p *puller) tick(ctx context.Context) error {
	now := time.Now()
	if p.hinted() {
		p.ticked = time.Time{}
	}
	if now.Sub(p.ticked) < tickEvery && (p.due.IsZero() || now.Before(p.due)) {
		return nil
	}
	p.ticked, p.due = now, time.Time{}
	k := p.d.root
	from, horizon := k.later()+due(now.UnixMilli()+1), k.later()+due(now.Add(2*tickEvery).UnixMilli())
	resp, err := read(ctx, p.d.e,
		clientv3.OpGet(k.later(), clientv3.WithRange(from), clientv3.WithLimit(tickItems)),
		clientv3.OpGet(from, clientv3.WithRange(horizon), clientv3.WithLimit(1), clientv3.WithKeysOnly()),
		all(k.asked(), clientv3.WithLimit(tickItems)),
		all(k.works(), clientv3.WithKeysOnly()),
		all(k.heres(), clientv3.WithKeysOnly()),
		all(k.until()))
	if err != nil {
		return err
	}
	at := func(i int) []*mvccpb.KeyValue { return resp.Responses[i].GetResponseRange().GetKvs() }
	if next := at(1); len(next) > 0 {
		p.due = dueOf(k, string(next[0].Key))
	}
	if len(at(0)) == tickItems {
		p.due = now
	}
	moved, err := p.release(ctx, at(0))
	for _, dead := range gone(at(3), at(4)) {
		n, deadErr := p.inherit(ctx, dead)
		moved, err = moved+n, errors.Join(err, deadErr)
	}
	n, untilErr := p.overdue(ctx, at(5), now)
	p.d.puts.placeAsked(ctx, at(2))
	if moved+n+len(at(2)) > 0 {
		p.drop()
	}
	return errors.Join(err, untilErr)
}

func dueOf(k keys, key string) time.Time {
	ms, _, _ := strings.Cut(strings.TrimPrefix(key, k.later()), "/")
	var n int64
	if _, err := fmt.Sscanf(ms, "%x", &n); err != nil {
		return time.Time{}
	}
	return time.UnixMilli(n)
}

// gone returns the sessions that have left work and stand no more.
func gone(works, heres []*mvccpb.KeyValue) []string {
	here := make(map[string]bool, len(heres))
	for _, kv := range heres {
		here[idOf(string(kv.Key))] = true
	}
	var dead []string
	for _, kv := range works {
		if lease := idOf(string(kv.Key)); !here[lease] {
			dead = append(dead, lease)
		}
	}
	return dead
}

// together sends transactions that travel together, and counts those that were
// applied.
func (d *Dock) together(ctx context.Context, txns []commit.Txn) (int, error) {
	type answer struct {
		ok  bool
		err error
	}
	answers := make(chan answer, len(txns))
	for _, t := range txns {
		d.e.Submit(t.Scope, func() commit.Txn { return t }, func(r commit.Result, err error) { answers <- answer{r.Succeeded, err} })
	}
	n, errs := 0, []error(nil)
	for range txns {
		select {
		case a := <-answers:
			if a.ok {
				n++
			}
			if a.err != nil && len(errs) == 0 {
				errs = append(errs, a.err)
			}
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
	}
	return n, errors.Join(errs...)
}

// release moves items whose delay is over to the front.
func (p *puller) release(ctx context.Context, kvs []*mvccpb.KeyValue) (int, error) {
	var txns []commit.Txn
	for _, kv := range kvs {
		txns = append(txns, p.toFront(kv))
	}
	return p.d.together(ctx, txns)
}

// toFront moves an item to the front, whatever it is under now.
func (p *puller) toFront(kv *mvccpb.KeyValue) commit.Txn {
	rec, err := decode(kv.Value)
	if err != nil {
		return p.noItem(kv)
	}
	if rec.Order == 0 {
		rec.Order = kv.CreateRevision
	}
	return p.moved(kv, share{idOf(string(kv.Key)), rec})
}

// bundleToFront moves the items of a bundle to the front.
func (p *puller) bundleToFront(kv *mvccpb.KeyValue) commit.Txn {
	shares, err := decodeBundle(kv.Value)
	if err != nil {
		return p.noItem(kv)
	}
	return p.moved(kv, shares...)
}

// moved puts what stands under a key in front.
func (p *puller) moved(kv *mvccpb.KeyValue, shares ...share) commit.Txn {
	t := taking(kv)
	for _, s := range shares {
		t.Then = append(t.Then, p.d.root.back(s.id, s.rec, 0))
	}
	return t
}

// noItem makes a dead letter of what no version of this package wrote.
func (p *puller) noItem(kv *mvccpb.KeyValue) commit.Txn {
	t := taking(kv)
	rec := Record{At: time.Now().UnixMilli(), Codec: "bytes", Order: kv.CreateRevision, Reason: "not an item's record", Payload: kv.Value}
	t.Then = append(t.Then, p.d.root.dead().back(idOf(string(kv.Key)), rec, 0))
	return t
}

// taking deletes a key, if it is unchanged.
func taking(kv *mvccpb.KeyValue) commit.Txn {
	key := string(kv.Key)
	return commit.Txn{Scope: []string{key}, Likely: true, If: []clientv3.Cmp{unchanged(key, kv.ModRevision)}, Then: []clientv3.Op{clientv3.OpDelete(key)}}
}

// inherit returns to the queue what a session that ended had taken. Its claims
// find that its key is gone, so there will not be more.
func (p *puller) inherit(ctx context.Context, lease string) (int, error) {
	k := p.d.root
	outs, bundles := k.out()+lease+"/", k.bundlesOf(lease)
	resp, err := read(ctx, p.d.e, all(outs, clientv3.WithLimit(tickItems)), all(bundles, clientv3.WithLimit(tickBundles)))
	if err != nil {
		return 0, err
	}
	var txns []commit.Txn
	take := func(r *pb.RangeResponse, move func(*mvccpb.KeyValue) commit.Txn) {
		for _, kv := range r.GetKvs() {
			t := move(kv)
			t.If = append(t.If, absent(k.here(lease)))
			t.Then = append(t.Then, clientv3.OpDelete(k.untilOf(lease, idOf(string(kv.Key)))))
			txns = append(txns, t)
		}
		if r.GetMore() {
			p.due = time.Now()
		}
	}
	take(resp.Responses[0].GetResponseRange(), p.toFront)
	take(resp.Responses[1].GetResponseRange(), p.bundleToFront)
	if len(txns) > 0 {
		return p.d.together(ctx, txns)
	}
	_, err = p.d.e.Do(ctx, commit.Txn{Scope: []string{k.work(lease)}, If: []clientv3.Cmp{absent(k.here(lease)), nothingUnder(outs), nothingUnder(bundles)},
		Then: []clientv3.Op{clientv3.OpDelete(k.work(lease))}})
	return 0, err
}

// overdue returns deliveries of served sessions whose time is over. It leaves a
// note, by which a repeated ack tells that from its own first try.
func (p *puller) overdue(ctx context.Context, kvs []*mvccpb.KeyValue, now time.Time) (int, error) {
	n := 0
	var errs []error
	for _, kv := range kvs {
		if string(kv.Value) == returned || number(kv.Value) > now.UnixMilli() {
			continue
		}
		ok, err := p.expire(ctx, kv)
		if ok {
			n++
		}
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

func (p *puller) expire(ctx context.Context, until *mvccpb.KeyValue) (bool, error) {
	k, note := p.d.root, string(until.Key)
	out := k.out() + strings.TrimPrefix(note, k.until())
	resp, err := read(ctx, p.d.e, clientv3.OpGet(out))
	if err != nil {
		return false, err
	}
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	if len(kvs) == 0 {
		_, err := p.d.e.Do(ctx, commit.Txn{Scope: []string{note}, If: []clientv3.Cmp{unchanged(note, until.ModRevision), absent(out)},
			Then: []clientv3.Op{clientv3.OpDelete(note)}})
		return false, err
	}
	t := p.toFront(kvs[0])
	t.Scope = append(t.Scope, note)
	t.If = append(t.If, unchanged(note, until.ModRevision))
	lease, ok := leaseOf(strings.TrimPrefix(note, k.until()))
	if !ok {
		return false, nil
	}
	t.Then = append(t.Then, clientv3.OpPut(note, returned, clientv3.WithLease(lease)))
	r, err := p.d.e.Do(ctx, t)
	if err != nil && !passing(err) {
		return false, nil // its session has ended too: inherit does it
	}
	return r.Succeeded, err
}

func leaseOf(rest string) (clientv3.LeaseID, bool) {
	text, _, _ := strings.Cut(rest, "/")
	var id uint64
	_, err := fmt.Sscanf(text, "%x", &id)
	return clientv3.LeaseID(id), err == nil
}
