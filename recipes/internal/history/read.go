package history

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// A Past is what is known of a name, newest first.
type Past struct {
	Endings []Ending
	Gaps    []Gap
}

// MaxKeep is the largest number of endings that can be kept of a name, and how
// many Read finds at most that nobody recorded.
const MaxKeep = 1000

// newest is the latest endings of many.
type newest []found

func (n *newest) add(f found) {
	if *n = append(*n, f); len(*n) == 2*MaxKeep {
		*n = append(newest(nil), (*n)[MaxKeep:]...)
	}
}

// Read returns the past of a name as of now: what a recorder wrote, and what it
// has not written yet.
func Read(ctx context.Context, c *clientv3.Client, s state.Space, name string) (Past, error) {
	sp, segment := space{s}, keyspace.Escape(name)
	resp, err := c.Txn(ctx).Then(clientv3.OpGet(sp.mark()), clientv3.OpGet(sp.recorder()),
		clientv3.OpGet(sp.chunksOf(segment), clientv3.WithPrefix())).Commit()
	if err != nil {
		return Past{}, err
	}
	marked, recorder := first(resp.Responses[0]), first(resp.Responses[1])
	m, upto := markOf(marked)
	past := Past{Gaps: m.Gaps}
	written := int64(0)
	for _, kv := range resp.Responses[2].GetResponseRange().Kvs {
		var ch chunk
		if _, k, ok := sp.parseChunk(string(kv.Key)); ok && json.Unmarshal(kv.Value, &ch) == nil {
			past.Endings = append(past.Endings, ch.Endings...)
			written = max(written, k.rev)
		}
	}
	fresh, gap, err := unwritten(ctx, c, sp, segment, upto, resp.Header.Revision)
	if err != nil {
		return Past{}, err
	}
	for _, f := range fresh {
		if f.rev > written {
			past.Endings = append(past.Endings, f.ending())
		}
	}
	// What a recorder that is there has seen, and not written yet, is no gap.
	there := recorder != nil && marked != nil && recorder.ModRevision < marked.ModRevision
	if gap != nil && !there {
		past.Gaps = append(past.Gaps, *gap)
	}
	slices.SortStableFunc(past.Endings, func(a, b Ending) int {
		return cmp.Or(cmp.Compare(b.Revision, a.Revision), cmp.Compare(b.Token, a.Token))
	})
	slices.SortStableFunc(past.Gaps, func(a, b Gap) int { return cmp.Compare(b.From, a.From) })
	return past, nil
}

// first returns the one key that an operation read, or nil.
func first(op *pb.ResponseOp) *mvccpb.KeyValue {
	if kvs := op.GetResponseRange().GetKvs(); len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}

// unwritten returns what ended from one revision to another. Only if something
// did, it asks for the leases, which are many and tell why.
func unwritten(ctx context.Context, c *clientv3.Client, s space, segment string, upto, to int64) (newest, *Gap, error) {
	name := prefixSpan(s.Prefix() + segment + "/")
	for _, spans := range [][]span{{name}, {s.leases(), name}} {
		var fresh newest
		rest := catchUp{client: c, space: s, spans: spans, upto: upto, to: to, ended: fresh.add}
		_, gap, err := rest.run(ctx)
		if err != nil || len(fresh) == 0 || len(spans) == 2 {
			return fresh, gap, err
		}
	}
	return nil, nil, nil
}
