package rendezvous

import (
	"context"
	"math/rand/v2"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/watch"
)

// firstLook is when somebody who waits looks for what nobody announces: the end of
// a lease, and a hand in the keys. Both take longer as a rule.
const firstLook = time.Second

// A sight is what one linearizable read saw.
type sight struct {
	state state
	rev   int64
	count int64    // tickets of the arrival's generation
	ids   []string // the n oldest of them
	mine  *mvccpb.KeyValue
}

// tell takes a state that a reply has, and returns it.
func (p *place) tell(kvs []*mvccpb.KeyValue, rev int64) state {
	var kv *mvccpb.KeyValue
	if len(kvs) > 0 {
		kv = kvs[0]
	}
	s := stateOf(kv)
	p.board.learn(s, rev)
	return s
}

func (a *arrival) tell(kvs []*mvccpb.KeyValue, rev int64) state { return a.p.tell(kvs, rev) }

// saw takes the replies of state, tickets and own ticket, in this order.
func (a *arrival) saw(r []*pb.ResponseOp, rev int64) *sight {
	there := r[1].GetResponseRange()
	v := &sight{state: a.tell(r[0].GetResponseRange().GetKvs(), rev), rev: rev, count: there.GetCount(), ids: idsOf(there.GetKvs())}
	if mine := r[2].GetResponseRange().GetKvs(); len(mine) > 0 {
		v.mine = mine[0]
	}
	return v
}

// read looks at the generation.
func (a *arrival) read(ctx context.Context) (v *sight, err error) {
	err = a.h.patiently(ctx, func(ctx context.Context) error {
		resp, err := a.h.e.Client().Txn(ctx).Then(clientv3.OpGet(a.p.at()), a.theOldest(a.gen), clientv3.OpGet(a.ticket())).Commit()
		if err == nil {
			v = a.saw(resp.Responses, resp.Header.Revision)
		}
		return err
	})
	return v, err
}

// A lookout is somebody who waits, and looks late and seldom: at the timer, and
// when the one key that it watches is deleted.
type lookout struct {
	h     *Hall
	timer *time.Timer
	seen  chan struct{} // holds one token: the watched key went, or its watch
	w     *watch.Watch
}

func (h *Hall) lookout() *lookout {
	return &lookout{h: h, timer: time.NewTimer(firstLook), seen: make(chan struct{}, 1)}
}

// again sets the time of the next look.
func (l *lookout) again() { l.timer.Reset(l.h.e.TTL()/3 + rand.N(time.Second)) }

func (l *lookout) stop() {
	l.timer.Stop()
	l.unwatch()
}

func (l *lookout) unwatch() {
	if l.w != nil {
		l.w.Stop()
		l.w = nil
	}
}

// watch waits for the deletion of a key that stood at rev.
func (l *lookout) watch(ctx context.Context, key string, rev int64) error {
	l.unwatch()
	tell := func() {
		select {
		case l.seen <- struct{}{}:
		default:
		}
	}
	w, err := watch.Key(ctx, l.h.e.Client(), key, watch.Options{
		Revision: rev + 1, NoPut: true, Streams: l.h.e.Streams(),
		Event: func(*clientv3.Event) { tell() }, Lost: func(error) { tell() },
	})
	if err == nil {
		l.w = w
	}
	return err
}

// look finds out what nobody announced: that the own ticket is gone, that all are
// here, or that a member was lost whose loss breaks the generation.
func (a *arrival) look(ctx context.Context, l *lookout) error {
	defer l.again()
	v, err := a.read(ctx)
	if err != nil {
		return err
	}
	if on, _ := a.judge(v.state); on != waits {
		return nil
	}
	if v.mine == nil {
		return errTicketGone
	}
	a.create = v.mine.CreateRevision
	if len(v.ids) >= v.state.Parties {
		return a.complete(ctx, v.state, v.count, v.ids, v.rev)
	}
	if !v.state.Breaks {
		return nil
	}
	return a.h.patiently(ctx, func(ctx context.Context) error { return a.lookForLost(ctx, l, v.state) })
}

// lookForLost looks whether the ticket that came before the own one stands, or, as
// the first, whether the last one does, and watches it.
func (a *arrival) lookForLost(ctx context.Context, l *lookout, s state) error {
	x, err := a.charge(ctx)
	if err != nil || x == nil {
		return err
	}
	ticket := a.p.tickets(a.gen) + idOf(x.Key)
	resp, err := a.h.e.Client().Get(ctx, ticket, clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if resp.Count > 0 {
		return l.watch(ctx, ticket, resp.Header.Revision)
	}
	return a.breakFor(ctx, s, x, ticket)
}

// charge is the party that a looks after: the one before its own, or, of the
// first, the last; nil if it is alone.
func (a *arrival) charge(ctx context.Context) (*mvccpb.KeyValue, error) {
	all := below(a.p.parties(a.gen))
	newest := []clientv3.OpOption{clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortDescend), clientv3.WithLimit(1)}
	resp, err := a.h.e.Client().Txn(ctx).Then(
		get(all, append(newest, clientv3.WithMaxCreateRev(a.create-1))...), get(all, newest...)).Commit()
	if err != nil {
		return nil, err
	}
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			if idOf(kv.Key) != a.id {
				return kv, nil
			}
		}
	}
	return nil, nil
}

// breakFor breaks the generation for the loss of x.
func (a *arrival) breakFor(ctx context.Context, s state, x *mvccpb.KeyValue, ticket string) error {
	n := s.next(ended{Broken: true, Lost: recordOf(x.Value).Owner})
	r, err := a.h.settle(ctx, commit.Txn{
		Scope: []string{a.p.prefix},
		If:    []clientv3.Cmp{unmodified(a.p.at(), s.rev), absent(ticket), unmodified(string(x.Key), x.ModRevision)},
		Then: []clientv3.Op{clientv3.OpPut(a.p.at(), n.encode()), clientv3.OpDelete(a.p.left()),
			deleteAll(below(a.p.tickets(a.gen))), deleteAll(below(a.p.parties(a.gen)))},
		Else: []clientv3.Op{clientv3.OpGet(a.p.at())},
	}, nil)
	if err != nil {
		return err
	}
	if r.Succeeded {
		n.rev = r.Revision
		a.p.board.learn(n, r.Revision)
		return nil
	}
	a.tell(kvs(r, 0), r.Revision)
	return nil
}
