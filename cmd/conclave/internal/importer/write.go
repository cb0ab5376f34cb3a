package importer

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	batchOps   = 100     // etcd takes 128 in one transaction
	batchBytes = 1 << 20 // and 1.5 MiB
	callTime   = 10 * time.Second
)

// A Report says what Write has done.
type Report struct {
	Written   int      `json:"written"`
	Bytes     int64    `json:"bytes"`
	Same      int      `json:"same"`      // were there with the same value
	Leased    int      `json:"leased"`    // of those written, expire
	Conflicts []string `json:"conflicts"` // were there with another value, and have it still
}

// A writer writes items.
type writer struct {
	c         *clientv3.Client
	overwrite bool
	now       time.Time
	leases    map[int64]clientv3.LeaseID // by the second in which they end
	report    Report
}

// Write writes the items: all that are not there, and with overwrite also those that are there with another value. Keys that expire get a
// lease that ends when they do. The report is good, as far as it goes, with an error too; then running it again goes on.
func Write(ctx context.Context, c *clientv3.Client, items []Item, overwrite bool) (Report, error) {
	w := &writer{c: c, overwrite: overwrite, now: time.Now(), leases: make(map[int64]clientv3.LeaseID), report: Report{Conflicts: []string{}}}
	for len(items) > 0 {
		n := 0
		for size := 0; n < len(items) && n < batchOps; n++ {
			if size += len(items[n].Key) + len(items[n].Value); n > 0 && size > batchBytes {
				break
			}
		}
		if err := w.batch(ctx, items[:n]); err != nil {
			return w.report, err
		}
		items = items[n:]
	}
	return w.report, nil
}

// batch writes items in one transaction, or one by one if some are there.
func (w *writer) batch(ctx context.Context, items []Item) error {
	absent := make([]clientv3.Cmp, len(items))
	puts := make([]clientv3.Op, len(items))
	for n, i := range items {
		put, err := w.put(ctx, i)
		if err != nil {
			return err
		}
		puts[n], absent[n] = put, clientv3.Compare(clientv3.CreateRevision(i.Key), "=", 0)
	}
	resp, err := w.commit(ctx, w.c.Txn(ctx).If(absent...).Then(puts...))
	if err != nil {
		return fmt.Errorf("write %q and %d more: %w", items[0].Key, len(items)-1, err)
	}
	if resp.Succeeded {
		for _, i := range items {
			w.written(i)
		}
		return nil
	}
	for n, i := range items {
		if err := w.one(ctx, i, puts[n]); err != nil {
			return fmt.Errorf("write %q: %w", i.Key, err)
		}
	}
	return nil
}

// one writes an item that may be there.
func (w *writer) one(ctx context.Context, i Item, put clientv3.Op) error {
	resp, err := w.commit(ctx, w.c.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(i.Key), "=", 0)).Then(put).Else(clientv3.OpGet(i.Key)))
	switch {
	case err != nil:
		return err
	case resp.Succeeded:
		w.written(i)
		return nil
	}
	there := resp.Responses[0].GetResponseRange().GetKvs()[0]
	switch {
	case bytes.Equal(there.GetValue(), i.Value):
		w.report.Same++
		return nil
	case !w.overwrite:
		w.report.Conflicts = append(w.report.Conflicts, i.Key)
		return nil
	}
	if _, err := w.commit(ctx, w.c.Txn(ctx).Then(put)); err != nil {
		return err
	}
	w.written(i)
	return nil
}

func (*writer) commit(ctx context.Context, txn clientv3.Txn) (*clientv3.TxnResponse, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	return txn.Commit()
}

func (w *writer) written(i Item) {
	w.report.Written++
	w.report.Bytes += int64(len(i.Value))
	if !i.Expires.IsZero() {
		w.report.Leased++
	}
}

// put is the write of an item. Those that end in the same second share a lease.
func (w *writer) put(ctx context.Context, i Item) (clientv3.Op, error) {
	if i.Expires.IsZero() {
		return clientv3.OpPut(i.Key, string(i.Value)), nil
	}
	end := i.Expires.Unix()
	id, ok := w.leases[end]
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, callTime)
		defer cancel()
		l, err := w.c.Grant(ctx, w.ttl(i.Expires))
		if err != nil {
			return clientv3.Op{}, fmt.Errorf("a lease for %q: %w", i.Key, err)
		}
		id = l.ID
		w.leases[end] = id
	}
	return clientv3.OpPut(i.Key, string(i.Value), clientv3.WithLease(id)), nil
}

// ttl is how long a key lives yet, in seconds, at least one.
func (w *writer) ttl(expires time.Time) int64 {
	return max(1, int64(math.Ceil(expires.Sub(w.now).Seconds())))
}
