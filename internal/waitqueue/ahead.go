package waitqueue

import (
	"context"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// blockedBy returns the nearest ticket ahead that keeps a from owning, or nil.
// The look read the first page of the tickets ahead; further ones are read at
// the same revision. It also read, in urgent, the more urgent tickets that came
// later than a's.
func (a *acquisition) blockedBy(ctx context.Context, v *sight, p *part, page *pb.RangeResponse, urgent []*mvccpb.KeyValue) (*blocker, error) {
	for {
		for _, kv := range page.Kvs {
			if b := a.blocks(v.rev, p, kv); b != nil {
				return b, nil
			}
		}
		if !page.More || len(page.Kvs) == 0 {
			break
		}
		last := page.Kvs[len(page.Kvs)-1].CreateRevision
		resp, err := a.q.e.Client().Do(ctx, a.aheadOp(p, last, v.rev))
		if err != nil {
			return nil, err
		}
		page = (*pb.RangeResponse)(resp.Get())
	}
	for _, kv := range urgent {
		if b := a.blocks(v.rev, p, kv); b != nil {
			return b, nil
		}
	}
	return nil, nil
}

// blocks tells whether a ticket ahead keeps a from owning as long as it stands.
func (a *acquisition) blocks(rev int64, p *part, kv *mvccpb.KeyValue) *blocker {
	key := string(kv.Key)
	if key == p.ticket {
		return nil
	}
	b := &blocker{key: key, rev: rev}
	switch {
	case a.req.Mode.exclusive():
		return b // who waits comes first, and who was granted owns
	case a.req.Mode == Permits:
		b.puts = true // once granted it is only one owner among several
		if kv.Version == waiting {
			return b
		}
	case a.req.Mode == Shared && modeOf(kv).exclusive():
		return b
	}
	return nil
}
