package waitqueue

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A sight is what one look at the line told, all of it at one revision.
type sight struct {
	rev     int64
	granted *mvccpb.KeyValue // own ticket, granted
	owned   int64            // revision of the own grants of a set
	set     *mvccpb.KeyValue // its record
	gone    bool             // own ticket, absent
	blocker *blocker         // nil: first, and free
}

// A blocker is one key whose presence keeps a waiter from claiming. While it
// stands the waiter's claim could not succeed, so watching it alone, from the
// revision after the look, misses nothing: a handover does not need the watch.
type blocker struct {
	key    string
	prefix bool
	puts   bool // a put of the key unblocks as well
	rev    int64
}

// partReads is how many operations a look spends on one name, and lookParts
// how many names fit one transaction of at most 128.
const (
	partReads = 6
	lookParts = 20
	pageSize  = 64
)

// look reads the line. It writes nothing and costs no raft entry.
func (a *acquisition) look(ctx context.Context) (*sight, error) {
	ctx, cancel := context.WithTimeout(ctx, min(5*time.Second, a.q.e.TTL()/2))
	defer cancel()
	v := &sight{}
	for from := 0; from < len(a.parts); from += lookParts {
		parts := a.parts[from:min(from+lookParts, len(a.parts))]
		ops := make([]clientv3.Op, 0, len(parts)*partReads+1)
		if a.req.Mode == Set {
			ops = append(ops, clientv3.OpGet(a.set, clientv3.WithRev(v.rev)))
		}
		for i := range parts {
			ops = append(ops, a.lookOps(&parts[i], v.rev)...)
		}
		resp, err := a.q.e.Client().Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return nil, err
		}
		if v.rev == 0 {
			v.rev = resp.Header.Revision
		}
		r := resp.Responses
		if a.req.Mode == Set {
			if set := r[0].GetResponseRange().Kvs; len(set) > 0 {
				v.owned, v.set = set[0].ModRevision, set[0]
			}
			r = r[1:]
		}
		for i := range parts {
			if err := a.judge(ctx, v, &parts[i], r[i*partReads:(i+1)*partReads]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// lookOps reads, at rev if it is not 0: the own ticket; the grant, holds and
// limit; the oldest share; the shadow; what stands ahead; what came later and is
// more urgent.
func (a *acquisition) lookOps(p *part, rev int64) []clientv3.Op {
	n, at := p.n, clientv3.WithRev(rev)
	return []clientv3.Op{
		clientv3.OpGet(p.ticket, at),
		get(n.owners(), at),
		get(n.reads(), at, clientv3.WithLimit(1), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)),
		clientv3.OpGet(n.shadow(), at),
		a.aheadOp(p, p.create, rev),
		get(n.above(a.bucket()), at, clientv3.WithMinCreateRev(p.create)),
	}
}

// aheadOp reads the tickets in line that stand ahead of the ticket created at
// before, the nearest in the own bucket first.
func (a *acquisition) aheadOp(p *part, before, rev int64) clientv3.Op {
	s := span{p.n.line().from, p.n.bucket(a.bucket()).end}
	return get(s, clientv3.WithRev(rev), clientv3.WithMaxCreateRev(max(before-1, 1)), clientv3.WithLimit(a.page()),
		clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend))
}

// page is how many tickets ahead one look reads: an exclusive waiter is blocked
// by any of them, the others have to find one that blocks.
func (a *acquisition) page() int64 {
	if a.req.Mode.exclusive() {
		return 1
	}
	return pageSize
}

// judge reads one name's part of a look.
func (a *acquisition) judge(ctx context.Context, v *sight, p *part, r []*pb.ResponseOp) error {
	ticket, owners := r[0].GetResponseRange().Kvs, r[1].GetResponseRange().Kvs
	if len(ticket) == 0 {
		v.gone = true
		return nil
	}
	if ticket[0].Version != waiting && a.req.Mode != Set {
		v.granted = ticket[0]
		return nil
	}
	p.create = ticket[0].CreateRevision
	if a.req.Mode == Permits {
		p.n.saw(v.rev, owners, true)
	}
	if v.blocker != nil {
		return nil // one name that blocks is enough
	}
	ahead, err := a.blockedBy(ctx, v, p, r[4].GetResponseRange(), r[5].GetResponseRange().Kvs)
	if err != nil {
		return err
	}
	if ahead != nil {
		v.blocker = ahead
		return nil
	}
	v.blocker = a.blockedByOwner(v.rev, p, owners, append(r[2].GetResponseRange().Kvs, r[3].GetResponseRange().Kvs...))
	return nil
}

// blockedByOwner returns the owner's key that keeps a from owning, or nil.
func (a *acquisition) blockedByOwner(rev int64, p *part, owners, sharers []*mvccpb.KeyValue) *blocker {
	used := 0
	for _, kv := range owners {
		if string(kv.Key) == p.n.grant() {
			return &blocker{key: p.n.grant(), rev: rev}
		}
		used += max(recordOf(kv).Permits, 0)
	}
	switch {
	case a.req.Mode == Permits && used+a.req.Permits > a.req.Limit:
		return &blocker{key: p.n.holds().from, prefix: true, rev: rev}
	case a.req.Mode.exclusive() && len(sharers) > 0:
		return &blocker{key: string(sharers[0].Key), rev: rev}
	case len(sharers) > 0 && string(sharers[len(sharers)-1].Key) == p.n.shadow():
		return &blocker{key: p.n.shadow(), rev: rev}
	}
	return nil
}
