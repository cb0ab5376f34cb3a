package history

import (
	"context"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// record follows the namespace and writes, until ctx ends or something is wrong.
func (t *term) record(ctx context.Context) error {
	l := newLedger(t.r.cfg.Keep, t.r.cfg.Age)
	upto, err := t.open(ctx, l)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	written := make(chan struct{})
	defer func() { <-written }()
	go func() {
		defer close(written)
		cancel((&writer{term: t, l: l}).run(ctx))
	}()
	defer cancel(nil)
	return t.observe(ctx, l, upto)
}

// open reads what stands in etcd: the chunks' keys, the gaps, and the mark.
func (t *term) open(ctx context.Context, l *ledger) (upto int64, err error) {
	resp, err := t.r.cfg.Client.Get(ctx, t.mark())
	if err != nil {
		return 0, err
	}
	if len(resp.Kvs) > 0 {
		var m mark
		m, upto = markOf(resp.Kvs[0])
		l.gaps = m.Gaps
	}
	chunks := prefixSpan(t.chunks())
	for from := chunks.from; ; {
		keys, err := t.r.cfg.Client.Get(ctx, from, clientv3.WithRange(chunks.end), clientv3.WithRev(resp.Header.Revision),
			clientv3.WithLimit(page), clientv3.WithKeysOnly())
		if err != nil {
			return 0, err
		}
		for _, kv := range keys.Kvs {
			if segment, k, ok := t.parseChunk(string(kv.Key)); ok {
				l.stands(segment, k)
			}
		}
		if !keys.More {
			return upto, nil
		}
		from = string(keys.Kvs[len(keys.Kvs)-1].Key) + "\x00"
	}
}

// observe takes in everything that happens to the namespace's names.
func (t *term) observe(ctx context.Context, l *ledger, upto int64) error {
	var now *tracker
	opts := watch.ObserveOptions{Streams: t.r.streams, Logger: t.r.cfg.Log}
	for b, err := range watch.Observe(ctx, t.r.cfg.Client, t.Prefix(), opts) {
		if err != nil {
			return err
		}
		var gap *Gap
		if b.Snapshot || b.Resync != nil {
			c := catchUp{client: t.r.cfg.Client, space: t.space, spans: []span{prefixSpan(t.Prefix())}, upto: upto, to: b.Revision, ended: l.add}
			if now, gap, err = c.run(ctx); err != nil {
				return err
			}
			t.leasesOf(now, l)
		} else {
			t.take(now, b, l)
		}
		upto = b.Revision
		l.saw(upto, gap)
	}
	return context.Cause(ctx)
}

// take takes one revision in.
func (t *term) take(now *tracker, b watch.Batch, l *ledger) {
	for _, f := range now.apply(b.Revision, b.Events, time.Now().UTC(), false) {
		l.add(f)
	}
	for _, ev := range b.Events {
		if ev.Type == mvccpb.PUT && ev.Kv.Lease != 0 && !now.alive[ev.Kv.Lease] && t.isOwner(string(ev.Kv.Key)) {
			l.owns(ev.Kv.Lease)
		}
	}
}

func (t *term) isOwner(key string) bool {
	_, rest, ok := t.Split(key)
	if !ok {
		return false
	}
	kind, _ := state.Parse(rest)
	return kind.Owner()
}

// leasesOf notes the leases of all who own something.
func (t *term) leasesOf(now *tracker, l *ledger) {
	for n := range now.names.All() {
		for _, kv := range n.Owners {
			if !now.alive[kv.Lease] {
				l.owns(kv.Lease)
			}
		}
	}
}

// errStopped ends a writer whose recorder ended.
var errStopped = errors.New("the recorder stops")
