package rendezvous

import (
	"context"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// fewParties is up to how many parties a Join reads who is there. With more it
// counts them, and who finds enough reads them.
const fewParties = 64

func kvs(r commit.Result, i int) []*mvccpb.KeyValue {
	return r.Responses[i].GetResponseRange().GetKvs()
}

// begins puts the state for these parties if nobody is here, and else joins those
// who are, if they may.
func (a *arrival) begins(ctx context.Context, s state) error {
	join := false
	err := a.p.alone(ctx, s, func() (err error) {
		join, err = a.begin(ctx, s)
		return err
	})
	if err == nil && join { // who began it decided what a loss does
		return a.join(ctx, s)
	}
	return err
}

// begin reports whether the state stays as it is, and fits.
func (a *arrival) begin(ctx context.Context, s state) (join bool, err error) {
	n := state{V: stateVersion, Gen: max(s.Gen, 1), Phase: gathering, Parties: a.req.Parties, Breaks: a.breaks(), Past: s.Past}
	all := below(a.p.prefix + inPart)
	idle := absentIn(all)
	for {
		r, err := a.h.settle(ctx, commit.Txn{
			Scope: []string{a.p.prefix},
			If:    []clientv3.Cmp{unmodified(a.p.at(), s.rev), idle},
			Then:  []clientv3.Op{clientv3.OpPut(a.p.at(), n.encode())},
			Else:  []clientv3.Op{clientv3.OpGet(a.p.at()), get(all, clientv3.WithKeysOnly())},
		}, nil)
		if err != nil {
			return false, err
		}
		if r.Succeeded {
			n.rev = r.Revision
			a.p.board.learn(n, r.Revision)
			return false, nil
		}
		now := a.tell(kvs(r, 0), r.Revision)
		switch {
		case now.rev != s.rev:
			return false, nil // look at that one
		case s.rev == 0: // somebody deleted it while members stood
			for _, kv := range kvs(r, 1) {
				n.Gen = max(n.Gen, a.p.generationOf(string(kv.Key))+1)
			}
			idle = noneSince(all, r.Revision)
		case s.Parties != a.req.Parties:
			return false, a.mismatch(s)
		default:
			return true, nil
		}
	}
}

func (a *arrival) mismatch(s state) error {
	return fmt.Errorf("%w: %d here, and %d by those who are there", ErrMismatch, a.req.Parties, s.Parties)
}

// endOver ends a generation that nobody is in any more.
func (a *arrival) endOver(ctx context.Context, s state) error {
	over, err := a.p.over(ctx, s)
	switch {
	case err != nil || over:
		return err
	case s.Parties != a.req.Parties:
		return a.mismatch(s)
	}
	return ErrFull
}

// over begins the next generation if the present one has no member any more. It
// reports false if it has.
func (p *place) over(ctx context.Context, s state) (bool, error) {
	n := s.next(ended{Members: s.Members})
	r, err := p.h.settle(ctx, commit.Txn{
		Scope: []string{p.prefix},
		If:    []clientv3.Cmp{unmodified(p.at(), s.rev), absentIn(below(p.tickets(s.Gen)))},
		Then:  []clientv3.Op{clientv3.OpPut(p.at(), n.encode())},
		Else:  []clientv3.Op{clientv3.OpGet(p.at())},
	}, nil)
	if err != nil {
		return false, err
	}
	if r.Succeeded {
		n.rev = r.Revision
		p.board.learn(n, r.Revision)
		return true, nil
	}
	return p.tell(kvs(r, 0), r.Revision).rev != s.rev, nil
}

// joinTxn puts the ticket while the state is s.
func (a *arrival) joinTxn(s state) commit.Txn {
	lease := clientv3.WithLease(a.h.e.Lease())
	there := a.theOldest(s.Gen)
	if a.req.Parties > fewParties {
		there = get(below(a.p.tickets(s.Gen)), clientv3.WithCountOnly())
	}
	t := commit.Txn{
		Scope: []string{a.p.prefix},
		If: []clientv3.Cmp{unmodified(a.p.at(), s.rev), unmodified(a.p.void(a.id), a.void),
			absent(a.ticket())},
		Then: []clientv3.Op{clientv3.OpPut(a.ticket(), a.record, lease), there},
		Else: []clientv3.Op{clientv3.OpGet(a.p.at()), there, clientv3.OpGet(a.ticket()), clientv3.OpGet(a.p.void(a.id))},
	}
	if s.Breaks {
		t.Then = append(t.Then, clientv3.OpPut(a.party(), a.record))
	}
	if a.req.Operation != "" {
		at := arrivedAt{V: recordVersion, Op: a.req.Operation, Gen: s.Gen}
		t.Then = append(t.Then, clientv3.OpPut(a.p.op(leasePart(a.h.e)+one), mustJSON(at), lease))
	}
	return t
}

// join puts the ticket and completes the generation if all are there. It leaves
// gen 0 if it found another state.
func (a *arrival) join(ctx context.Context, s state) error {
	a.gen, a.put = s.Gen, true
	r, err := a.h.settle(ctx, a.joinTxn(s), func() { a.unknown = true })
	if err != nil {
		return err
	}
	there := r.Responses[1].GetResponseRange()
	if r.Succeeded {
		a.create = r.Revision
		return a.complete(ctx, s, there.GetCount(), idsOf(there.GetKvs()), r.Revision)
	}
	now := a.tell(kvs(r, 0), r.Revision)
	if mine := kvs(r, 2); len(mine) > 0 { // by an earlier try, or another call of the session
		a.create = mine[0].CreateRevision
		if now.rev == s.rev {
			return a.complete(ctx, s, there.GetCount(), idsOf(there.GetKvs()), r.Revision)
		}
		return nil
	}
	if v, _ := a.judge(now); a.unknown && v != waits {
		return nil // an earlier try may have been counted: the state says so
	}
	if void := kvs(r, 3); len(void) > 0 {
		a.void = void[0].ModRevision
	}
	a.anew()
	return nil
}

// complete writes the ready mark if n tickets stand, at rev.
func (a *arrival) complete(ctx context.Context, s state, count int64, ids []string, rev int64) error {
	for count >= int64(a.req.Parties) {
		if len(ids) < a.req.Parties {
			v, err := a.read(ctx)
			if err != nil {
				return err
			}
			if v.state.rev != s.rev || len(v.ids) < a.req.Parties {
				return nil
			}
			ids, rev = v.ids, v.rev
		}
		again, err := a.ready(ctx, s, ids, rev)
		if err != nil || again == nil {
			return err
		}
		count, ids, rev = again.count, again.ids, again.rev
	}
	return nil
}

// ready writes the mark. It returns what it saw if somebody went before.
func (a *arrival) ready(ctx context.Context, s state, ids []string, rev int64) (*sight, error) {
	n := s.next(ended{Members: marks(ids)})
	if a.req.Kind == Double {
		n = s
		n.Phase, n.Members = within, marks(ids)
	}
	t := commit.Txn{
		Scope: []string{a.p.prefix},
		If: []clientv3.Cmp{unmodified(a.p.at(), s.rev),
			clientv3.Compare(clientv3.ModRevision(a.p.left()), "<", rev+1)},
		Then: []clientv3.Op{clientv3.OpPut(a.p.at(), n.encode()), clientv3.OpDelete(a.p.left())},
		Else: []clientv3.Op{clientv3.OpGet(a.p.at()), a.theOldest(s.Gen), clientv3.OpGet(a.ticket())},
	}
	if s.Breaks {
		t.Then = append(t.Then, deleteAll(below(a.p.parties(s.Gen))))
	}
	if a.req.Kind == Cyclic {
		t.Then = append(t.Then, deleteAll(below(a.p.tickets(s.Gen))))
	}
	r, err := a.h.settle(ctx, t, nil)
	if err != nil {
		return nil, err
	}
	if r.Succeeded {
		n.rev = r.Revision
		a.p.board.learn(n, r.Revision)
		return nil, nil
	}
	v := a.saw(r.Responses, r.Revision)
	switch {
	case v.state.rev != s.rev:
		return nil, nil
	case v.mine == nil:
		return nil, errTicketGone
	}
	return v, nil
}
