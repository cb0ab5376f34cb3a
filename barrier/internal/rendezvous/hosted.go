package rendezvous

import (
	"context"
	"encoding/json"
	"errors"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
)

// ErrDetached is the cause of an ownership's end here that goes on in etcd.
var ErrDetached = errors.New("detached")

// share counts a caller in who waits in the session's place.
func (p *place) share(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shared[id]++
}

// unshare counts it out, and reports whether it was the last one.
func (p *place) unshare(id string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shared[id]--
	if p.shared[id] > 0 {
		return false
	}
	delete(p.shared, id)
	return true
}

// takeUp finds out where the session stands already, whichever process of it came:
// in the generation that gathers, in one that is complete, or, if this is the same
// operation, in a past one. It reports whether that was the answer.
func (a *arrival) takeUp(ctx context.Context) (p passed, ok bool, err error) {
	err = a.h.patiently(ctx, func(ctx context.Context) error {
		for {
			s, err := a.p.board.fresh(ctx)
			if err != nil {
				return err
			}
			a.gen = s.Gen
			resp, err := a.h.e.Client().Txn(ctx).Then(clientv3.OpGet(a.p.at()), clientv3.OpGet(a.ticket()),
				clientv3.OpGet(a.p.void(a.id)), clientv3.OpGet(a.p.op(leasePart(a.h.e)+one))).Commit()
			if err != nil {
				return err
			}
			var found [4]*mvccpb.KeyValue
			for i, r := range resp.Responses {
				for _, kv := range r.GetResponseRange().GetKvs() {
					found[i] = kv
				}
			}
			if now := stateOf(found[0]); now.rev == s.rev {
				p, ok, err = a.standing(s, found[1], found[2], found[3])
				return err
			}
		}
	})
	return p, ok, err
}

// standing goes on from what stands of the session: its ticket, its void record,
// and what it came to last.
func (a *arrival) standing(s state, ticket, void, last *mvccpb.KeyValue) (passed, bool, error) {
	if void != nil {
		a.void = void.ModRevision
	}
	if ticket != nil {
		a.create, a.put = ticket.ModRevision, true
		return passed{}, false, nil
	}
	var at arrivedAt
	if last != nil {
		_ = json.Unmarshal(last.Value, &at) // a foreign value is of no operation
	}
	if a.req.Operation == "" || at.Op != a.req.Operation {
		a.anew()
		return passed{}, false, nil
	}
	a.gen = at.Gen
	switch on, end := a.judge(s); on {
	case entered:
		return passed{gen: at.Gen}, true, nil
	case broke:
		return passed{}, true, &BrokenError{Owner: end.Lost}
	case unclear:
		return passed{}, true, core.ErrUnknownOutcome
	}
	a.anew()
	return passed{}, false, nil
}
