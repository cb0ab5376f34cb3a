package workqueue

import (
	"context"
	"fmt"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// An Ending is what etcd's history has of a delivery.
type Ending int

// The endings.
const (
	Untold    Ending = iota // the history does not reach back to it, or there was none
	Standing                // it has not ended
	ByAck                   // of all that ends a delivery only an ack puts the item nowhere
	Otherwise               // it went back or to the dead letters, or was deleted with its queue
)

// EndOf returns how a delivery of a session ended. It takes what nobody can tell from an
// ack for Untold; see docs/protocol-queue.md.
func EndOf(ctx context.Context, c *clientv3.Client, root string, lease clientv3.LeaseID, id string, token int64) (Ending, error) {
	ctx, cancel := context.WithTimeout(ctx, requestWait)
	defer cancel()
	k := keys(root)
	here := k.here(leaseText(lease))
	revision, stands, err := departure(ctx, c, k, lease, id, token)
	switch {
	case err != nil || !stands && revision == 0:
		return Untold, err
	case stands:
		return Standing, nil
	}
	stood, err := c.Get(ctx, here, clientv3.WithRev(revision-1), clientv3.WithCountOnly())
	if err != nil {
		return Untold, err
	}
	all, err := next(ctx, c, root, revision, clientv3.WithPrefix())
	if err != nil {
		return Untold, err
	}
	for _, ev := range all {
		key := string(ev.Kv.Key)
		switch {
		case ev.Type == clientv3.EventTypeDelete && key == here:
			return Otherwise, nil
		case ev.Type == clientv3.EventTypePut && strings.HasSuffix(key, "/"+id):
			return Otherwise, nil
		}
	}
	if stood.Count == 0 || len(all) == 0 {
		return Untold, nil // a removal may have taken it, without the session's key
	}
	return ByAck, nil
}

// departure returns the revision at which the last key of a delivery was deleted, or that
// it stands, or neither if the history does not tell.
func departure(ctx context.Context, c *clientv3.Client, k keys, lease clientv3.LeaseID, id string, token int64) (revision int64, stands bool, err error) {
	out := k.outOf(leaseText(lease), id)
	key, revision, err := placeAt(ctx, c, k, lease, id, token)
	for err == nil && key != "" {
		now, err := c.Get(ctx, key, clientv3.WithKeysOnly())
		if err != nil {
			return 0, false, err
		}
		if len(now.Kvs) > 0 && now.Kvs[0].ModRevision == revision {
			return 0, true, nil
		}
		end, err := next(ctx, c, key, revision+1)
		if err != nil || len(end) == 0 || end[0].Type != clientv3.EventTypeDelete {
			return 0, false, err
		}
		revision = end[0].Kv.ModRevision
		if key == out {
			return revision, false, nil
		}
		split, err := recordAt(ctx, c, out, revision)
		if err != nil || split == nil || split.Of != token>>tokenBits {
			return revision, false, err
		}
		key = out // it got a key of its own when its bundle went
	}
	return 0, false, err
}

// placeAt returns the key that a delivery had when it was claimed, "" if the history does
// not tell: its own, or that of a bundle.
func placeAt(ctx context.Context, c *clientv3.Client, k keys, lease clientv3.LeaseID, id string, token int64) (key string, rev int64, err error) {
	rev = token >> tokenBits
	key = k.outOf(leaseText(lease), id)
	rec, err := recordAt(ctx, c, key, rev)
	if err != nil || rec != nil && rev<<tokenBits|int64(rec.Index) == token {
		return key, rev, err
	}
	b, _, err := bundleAt(ctx, c, k, leaseText(lease), id, token, clientv3.WithRev(rev))
	if b == nil || err != nil {
		return "", 0, err
	}
	return string(b.Key), rev, nil
}

// recordAt reads the record that a key got at a revision, nil if it got none.
func recordAt(ctx context.Context, c *clientv3.Client, key string, rev int64) (*Record, error) {
	resp, err := c.Get(ctx, key, clientv3.WithRev(rev))
	if err != nil || len(resp.Kvs) == 0 || resp.Kvs[0].ModRevision != rev {
		return nil, err
	}
	if rec, err := decode(resp.Kvs[0].Value); err == nil {
		return &rec, nil
	}
	return nil, nil
}

// recall is what became of an ack of a served session that was sent twice, at least,
// and finds no delivery. The note of a return is of no use for that: others of the
// session may have claimed the item anew and acked it, and have taken the note away.
func (v *Delivery) recall(ctx context.Context) error {
	end, err := EndOf(ctx, v.d.e.Client(), string(v.d.root), v.d.e.Lease(), v.ID, v.Token())
	switch {
	case err == nil && end == ByAck:
		return nil
	case err == nil && end == Otherwise:
		return ErrStale
	}
	return fmt.Errorf("%w: the history does not tell", commit.ErrUnknown)
}

// next returns the events of the first revision from one on that has any. There is one.
func next(ctx context.Context, c *clientv3.Client, key string, from int64, opts ...clientv3.OpOption) ([]*clientv3.Event, error) {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for resp := range c.Watch(ctx, key, append(opts, clientv3.WithRev(from))...) {
		if err := resp.Err(); err != nil {
			return nil, err
		}
		if len(resp.Events) == 0 {
			continue
		}
		n := 0
		for n < len(resp.Events) && resp.Events[n].Kv.ModRevision == resp.Events[0].Kv.ModRevision {
			n++
		}
		return resp.Events[:n], nil
	}
	return nil, context.Cause(ctx)
}
