package history

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// markOf reads a mark, and the revision up to which nothing of the names can be
// missing: the transaction that wrote the mark touched none of them.
func markOf(kv *mvccpb.KeyValue) (m mark, upto int64) {
	if kv == nil || json.Unmarshal(kv.Value, &m) != nil {
		return mark{}, 0
	}
	if m.Revision == kv.ModRevision-1 {
		return m, kv.ModRevision
	}
	return m, m.Revision
}

func prefixSpan(prefix string) span { return span{prefix, clientv3.GetPrefixRangeEnd(prefix)} }

// A catchUp brings a tracker to a revision.
type catchUp struct {
	client *clientv3.Client
	space  space
	spans  []span
	upto   int64 // all until here is known; 0: nothing is
	to     int64
	ended  func(found)
}

// tries bounds how often compaction may get ahead of a catch-up.
const tries = 3

// run returns a tracker at the revision to, and the gap that compaction made, or
// nil. Whatever ended in between was told to ended.
func (c catchUp) run(ctx context.Context) (t *tracker, gap *Gap, err error) {
	base := c.upto
	for range tries {
		t = newTracker(c.space)
		err = c.from(ctx, t, base)
		compacted := new(compactedError)
		switch {
		case err == nil:
			return t, c.gap(base), nil
		case errors.As(err, &compacted):
			base = compacted.first
		case isCompacted(err):
			if base, err = c.compacted(ctx); err != nil {
				return nil, nil, err
			}
		default:
			return nil, nil, err
		}
	}
	return nil, nil, err
}

// from starts with the state at base, which is empty before the first revision.
func (c catchUp) from(ctx context.Context, t *tracker, base int64) error {
	if base > 0 {
		load := func(resp *clientv3.GetResponse) {
			for _, kv := range resp.Kvs {
				t.load(kv)
			}
		}
		if err := read(ctx, c.client, c.spans, base, load); err != nil {
			return err
		}
	}
	now := time.Now().UTC()
	return replay(ctx, c.client, c.spans, base+1, c.to, func(rev int64, events []*clientv3.Event) {
		for _, f := range t.apply(rev, events, now, true) {
			c.ended(f)
		}
	})
}

// compacted asks for the first revision that can be had.
func (c catchUp) compacted(ctx context.Context) (int64, error) {
	err := replay(ctx, c.client, []span{c.space.leases()}, 1, 1, func(int64, []*clientv3.Event) {})
	if compacted, ok := errors.AsType[*compactedError](err); ok {
		return compacted.first, nil
	}
	return 0, err
}

func (c catchUp) gap(base int64) *Gap {
	if c.upto == 0 || base == c.upto {
		return nil
	}
	return &Gap{From: c.upto + 1, To: base, At: time.Now().UTC()}
}
