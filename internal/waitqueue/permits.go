package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrLimitMismatch says that a name is in use with another limit.
var ErrLimitMismatch = errors.New("limit mismatch")

// A permitView is what a session last saw of a name's permits. etcd cannot add
// permits up, so an acquisition sums the holds that it saw at a revision and
// commits only if none is newer. Holds that vanished since only made room: an
// old view is safe.
type permitView struct {
	rev      int64 // of the store; 0 before the first look
	used     int   // permits held
	limit    int   // 0 when the name has none
	limitRev int64 // the limit key's mod revision
	busy     bool  // somebody owns the name or stands in its line
}

// look reads the view afresh. It costs one read and no raft entry.
func (n *name) look(ctx context.Context) error {
	resp, err := n.q.e.Client().Txn(ctx).Then(get(n.owners()),
		get(n.line(), clientv3.WithLimit(1), clientv3.WithKeysOnly()),
		get(n.reads(), clientv3.WithLimit(1), clientv3.WithKeysOnly())).Commit()
	if err != nil {
		return err
	}
	owners := resp.Responses[0].GetResponseRange().Kvs
	line := resp.Responses[1].GetResponseRange().Kvs
	reads := resp.Responses[2].GetResponseRange().Kvs
	n.saw(resp.Header.Revision, owners, len(line)+len(reads) > 0)
	return nil
}

// saw takes the view from the keys of n.owners() at a revision.
func (n *name) saw(rev int64, owners []*mvccpb.KeyValue, line bool) {
	v := permitView{rev: rev, busy: line}
	for _, kv := range owners {
		if string(kv.Key) == n.limit() {
			limit, err := strconv.Atoi(string(kv.Value))
			if err != nil || limit < 1 {
				limit = -1 // nobody's
			}
			v.limit, v.limitRev = limit, kv.ModRevision
			continue
		}
		v.busy = true
		v.used += max(recordOf(kv).Permits, 0)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if rev >= n.view.rev {
		n.view = v
	}
}

func (n *name) sees() permitView {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.view
}

// took adds an acquisition at revision rev to the view: its guards held, so
// nothing else is newer. A release takes away again, at any revision.
func (n *name) took(r *Request, rev int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.view.rev < rev && r.Mode != Permits {
		n.view = permitView{rev: rev, busy: true} // with the limit, if there was a stale one
		return
	}
	if n.view.rev < rev {
		n.view.rev, n.view.busy = rev, true
		n.view.used += r.Permits
		if n.view.limit != r.Limit {
			n.view.limit, n.view.limitRev = r.Limit, rev
		}
	}
}

// gave takes permits away that were granted at one revision and released at
// another, if the view counts them: what was handed over after the view, or had
// gone before it, is not in it, and would make room that others hold.
func (n *name) gave(permits int, granted, released int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if granted <= n.view.rev && n.view.rev < released {
		n.view.used = max(n.view.used-permits, 0)
	}
}

// mismatch returns ErrLimitMismatch if the name is in use with another limit.
func (v permitView) mismatch(r *Request) error {
	want := 0
	if r.Mode == Permits {
		want = r.Limit
	}
	if v.rev == 0 || !v.busy || v.limit == want {
		return nil
	}
	return fmt.Errorf("%w: in use with limit %d, not %d", ErrLimitMismatch, max(v.limit, 1), max(want, 1))
}

// stale tells that nobody uses the limit any more: the next owner may replace it.
func (v permitView) stale() bool { return v.limitRev > 0 && !v.busy }

// fits tells whether r's permits may be free, as far as the view knows.
func (v permitView) fits(r *Request) bool {
	return v.limit != r.Limit || v.used+r.Permits <= r.Limit
}

// freePermits holds when the permits can be taken at once; it is nil when the
// view says that they do not fit.
func (p *part) freePermits(r *Request) []clientv3.Cmp {
	n, v := p.n, p.view
	switch {
	case v.limitRev == 0:
		return []clientv3.Cmp{absentIn(n.owners()), absentIn(n.sharers()), absentIn(n.line())}
	case v.limit != r.Limit:
		return p.freeStale()
	case !v.fits(r):
		return nil
	default:
		return []clientv3.Cmp{unmodified(n.limit(), v.limitRev), noneNewer(n.holds(), v.rev), absent(n.grant()), absent(p.own), idle(n.line())}
	}
}

// freeStale holds when the name is free but for a limit that is not used. Four
// comparisons, so that 30 names fit into one transaction.
func (p *part) freeStale() []clientv3.Cmp {
	n := p.n
	before, after := around(span{n.grant(), n.sharers().end}, n.limit())
	return []clientv3.Cmp{unmodified(n.limit(), p.view.limitRev), absentIn(before), absentIn(after)}
}

// limitOps writes the limit with an acquisition on a free name.
func (p *part) limitOps(r *Request) []clientv3.Op {
	switch {
	case r.Mode == Permits && p.view.limit != r.Limit:
		return []clientv3.Op{clientv3.OpPut(p.n.limit(), strconv.Itoa(r.Limit))}
	case r.Mode != Permits && p.view.stale():
		return []clientv3.Op{clientv3.OpDelete(p.n.limit())}
	}
	return nil
}

// limitGuard holds as long as a ticket of this mode belongs in the line.
func (p *part) limitGuard(r *Request) clientv3.Cmp {
	switch {
	case r.Mode != Permits:
		return absent(p.n.limit())
	case p.view.limitRev > 0 && p.view.limit == r.Limit:
		return unmodified(p.n.limit(), p.view.limitRev)
	default:
		return never(p.n.limit())
	}
}

// anyStale tells whether a name has a limit that nobody uses.
func (a *acquisition) anyStale() bool {
	return slices.ContainsFunc(a.parts, func(p part) bool { return p.n.sees().stale() })
}

// inspect reads the views of a's names and checks them against its limit.
func (a *acquisition) inspect(ctx context.Context) error {
	for i := range a.parts {
		if err := a.parts[i].n.look(ctx); err != nil {
			return err
		}
		if err := a.parts[i].n.sees().mismatch(a.req); err != nil {
			return err
		}
	}
	return nil
}
