package history

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	gather     = 50 * time.Millisecond // that a flush waits for more
	pruneEvery = 10 * time.Minute
	maxOps     = 100     // of a transaction; etcd's own limit is 128
	maxBytes   = 512_000 // of a transaction; etcd's own limit is 1.5 MB
	lastWords  = time.Second
)

// A writer writes what a ledger collects, many names in one transaction.
type writer struct {
	*term

	l      *ledger
	marked int64 // what the last mark said
}

// run writes until ctx ends, and then once more: what was collected by then. It
// returns why it ended, at the latest with the first write that failed.
func (w *writer) run(ctx context.Context) error {
	beat, prune := time.NewTicker(w.r.cfg.Beat), time.NewTicker(pruneEvery)
	defer beat.Stop()
	defer prune.Stop()
	due, at := time.NewTimer(0), time.Now()
	defer due.Stop()
	after := func(d time.Duration) {
		at = time.Now().Add(d)
		due.Reset(d)
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			w.close(context.WithoutCancel(ctx))
			return errStopped
		case <-w.l.dirty:
			if at.IsZero() || time.Until(at) > gather { // else it would never be due while endings keep coming
				after(gather)
			}
		case <-due.C:
			at = time.Time{}
			var again time.Time
			if again, err = w.flush(ctx); !again.IsZero() {
				after(max(time.Until(again), gather))
			}
		case <-beat.C:
			err = w.beat(ctx)
		case <-prune.C:
			err = w.prune(ctx)
		}
		// Also when ctx has ended: what a flush took and did not write is found
		// again by the next recorder, as long as no mark says that it was written.
		if err != nil {
			return err
		}
	}
}

// close writes what was collected, and that nothing is missing: the next
// recorder begins there.
func (w *writer) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if _, err := w.flush(ctx); err != nil {
		return // the next recorder finds it out
	}
	if m := w.l.mark(time.Now()); m.Revision > w.marked {
		_ = w.putMark(ctx, nil, m)
	}
}

// flush writes what may be written now, and returns when to come again.
func (w *writer) flush(ctx context.Context) (again time.Time, err error) {
	b, again := w.l.take(time.Now())
	for len(b.leases) > 0 {
		n := min(len(b.leases), maxOps)
		if err := w.markAlive(ctx, b.leases[:n]); err != nil {
			return again, err
		}
		b.leases = b.leases[n:]
	}
	if !b.put {
		return again, nil
	}
	var ops []clientv3.Op
	size := 0
	for _, e := range b.entries {
		put := w.ops(e)
		n := len(put[len(put)-1].ValueBytes())
		if len(ops)+len(put) >= maxOps || size+n > maxBytes {
			if err := w.commit(ctx, ops); err != nil {
				return again, err
			}
			ops, size = nil, 0
		}
		ops, size = append(ops, put...), size+n
	}
	return again, w.putMark(ctx, ops, b.mark)
}

// ops writes a chunk after what it makes superfluous was deleted.
func (w *writer) ops(e entry) []clientv3.Op {
	prefix := w.chunksOf(e.segment)
	put := clientv3.OpPut(prefix+e.key.String(), encode(chunk{version, e.endings}))
	if e.drop == "" {
		return []clientv3.Op{put}
	}
	return []clientv3.Op{clientv3.OpDelete(prefix, clientv3.WithRange(prefix+e.drop)), put}
}

// putMark writes the mark, with the last of what it tells of.
func (w *writer) putMark(ctx context.Context, ops []clientv3.Op, m mark) error {
	err := w.commit(ctx, append(ops, clientv3.OpPut(w.mark(), encode(m))))
	if err == nil {
		w.marked = m.Revision
	}
	return err
}

// beat writes the mark if the store has moved on since it was last written.
func (w *writer) beat(ctx context.Context) error {
	resp, err := w.r.cfg.Client.Get(ctx, w.mark())
	if err != nil {
		return err
	}
	if len(resp.Kvs) > 0 {
		if _, upto := markOf(resp.Kvs[0]); upto == resp.Header.Revision {
			return nil
		}
	}
	return w.putMark(ctx, nil, w.l.mark(time.Now()))
}

// markAlive puts the keys that go with leases. One dead lease fails them all, so
// each is then tried by itself.
func (w *writer) markAlive(ctx context.Context, leases []int64) error {
	ops := make([]clientv3.Op, len(leases))
	for i, lease := range leases {
		ops[i] = clientv3.OpPut(w.alive(lease), "", clientv3.WithLease(clientv3.LeaseID(lease)))
	}
	err := w.commit(ctx, ops)
	switch {
	case err == nil || len(leases) == 1 && errors.Is(err, rpctypes.ErrLeaseNotFound):
		for _, lease := range leases {
			w.l.settled(lease)
		}
		return nil
	case !errors.Is(err, rpctypes.ErrLeaseNotFound):
		return err
	}
	for i := range leases {
		if err := w.markAlive(ctx, leases[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// prune deletes what is too old or too much.
func (w *writer) prune(ctx context.Context) error {
	var ops []clientv3.Op
	for _, c := range w.l.prune(time.Now()) {
		prefix := w.chunksOf(c.segment)
		end := prefix + c.before
		if c.before == "" {
			end = clientv3.GetPrefixRangeEnd(prefix)
		}
		if ops = append(ops, clientv3.OpDelete(prefix, clientv3.WithRange(end))); len(ops) == maxOps {
			if err := w.commit(ctx, ops); err != nil {
				return err
			}
			ops = nil
		}
	}
	if len(ops) == 0 {
		return nil
	}
	return w.commit(ctx, ops)
}
