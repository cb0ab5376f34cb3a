package waitqueue

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
)

// belongings are a lease's keys of one name, whoever put them: this host, or
// another one that the session was served by.
type belongings struct {
	home    int64
	grant   *mvccpb.KeyValue   // exclusive, shared or permits
	limit   int                // of the name; 0: none
	grants  []*mvccpb.KeyValue // of permits several
	tickets []*mvccpb.KeyValue // in the acquisition's bucket and the usual one
	voids   map[string]*mvccpb.KeyValue
}

// An ownError says that the lease owns the name already, or waits for it.
type ownError struct{ belongings }

func (e *ownError) Error() string { return "the session owns the name or waits for it" }

// errMoved says that the session's home is elsewhere: ask again.
var errMoved = errors.New("the session moved")

// mine is the range of the lease's keys below part, whatever host put them.
func (q *Queue) mine(k keys, part string) span {
	return prefixSpan(k.prefix + part + engine.LeasePrefix(q.e.Lease()))
}

// mineInLine are the lease's tickets in a bucket.
func (q *Queue) mineInLine(k keys, b bucket) span { return q.mine(k, linePart+b.String()+"/") }

// nothingOwn holds when the lease has neither a ticket in a's bucket nor an
// ownership: of grants, the exclusive one can only be told by its lease.
func (a *acquisition) nothingOwn() []clientv3.Cmp {
	p := &a.parts[0]
	cmps := []clientv3.Cmp{absentIn(a.q.mineInLine(p.n.keys, a.bucket())),
		clientv3.Compare(clientv3.LeaseValue(p.n.grant()), "!=", a.q.e.Lease())}
	if b := bucketOf(0); b != a.bucket() {
		cmps = append(cmps, absentIn(a.q.mineInLine(p.n.keys, b)))
	}
	return append(cmps, a.sharesNothing()...)
}

// sharesNothing holds when the lease is no reader of the name and has no permits.
func (a *acquisition) sharesNothing() []clientv3.Cmp {
	n := a.parts[0].n
	return []clientv3.Cmp{absentIn(a.q.mine(n.keys, readPart)), absentIn(a.q.mine(n.keys, holdPart))}
}

// readOwn reads the belongings.
func (a *acquisition) readOwn() []clientv3.Op { return a.q.readOwn(a.parts[0].n.keys, a.bucket()) }

func (q *Queue) readOwn(k keys, b bucket) []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpGet(k.grant()), clientv3.OpGet(k.limit()), get(q.mine(k, readPart)), get(q.mine(k, holdPart)),
		get(q.mine(k, voidPart)), get(q.mineInLine(k, b))}
	if usual := bucketOf(0); usual != b {
		ops = append(ops, get(q.mineInLine(k, usual)))
	}
	if q.home != nil {
		ops = append(ops, clientv3.OpGet(q.home.key))
	}
	return ops
}

// belongings sorts what readOwn read.
func (q *Queue) belongings(k keys, responses []*pb.ResponseOp) belongings {
	o := belongings{voids: make(map[string]*mvccpb.KeyValue)}
	for _, r := range responses {
		for _, kv := range r.GetResponseRange().GetKvs() {
			o.add(q, k, kv)
		}
	}
	return o
}

func (o *belongings) add(q *Queue, k keys, kv *mvccpb.KeyValue) {
	key := string(kv.Key)
	rest, below := strings.CutPrefix(key, k.prefix)
	switch {
	case q.home != nil && key == q.home.key:
		o.home = kv.ModRevision
	case rest == limitPart:
		o.limit, _ = strconv.Atoi(string(kv.Value)) // an unreadable one is nobody's
	case !below || kv.Lease != int64(q.e.Lease()): // a grant of somebody else's
	case strings.HasPrefix(rest, voidPart):
		o.voids[strings.TrimPrefix(rest, voidPart)] = kv
	case strings.HasPrefix(rest, linePart):
		o.tickets = append(o.tickets, kv)
	case rest == grantPart || strings.HasPrefix(rest, readPart) || strings.HasPrefix(rest, holdPart):
		o.grant, o.grants = kv, append(o.grants, kv)
	}
}

// waits returns the lease's ticket that waits, or nil.
func (o *belongings) waits() *mvccpb.KeyValue {
	for _, kv := range o.tickets {
		if kv.Version == waiting {
			return kv
		}
	}
	return nil
}

// ticketOf returns the ticket of the ownership, or nil.
func (o *belongings) ticketOf(grant *mvccpb.KeyValue) *mvccpb.KeyValue {
	for _, kv := range o.tickets {
		if kv.ModRevision == grant.ModRevision && kv.Version != waiting {
			return kv
		}
	}
	return nil
}

// void returns the revision of an acquisition's void record, 0 if there is none.
func (o *belongings) void(id string) int64 {
	if kv := o.voids[id]; kv != nil {
		return kv.ModRevision
	}
	return 0
}

// valueOf reads a ticket.
func valueOf(ticket *mvccpb.KeyValue) ticketValue {
	var v ticketValue
	_ = json.Unmarshal(ticket.Value, &v) // a foreign value reads as an unknown owner
	return v
}

// met reads the else branch of an arriving request: what of the lease's own was
// in the way (an *ownError), that the session's home moved (errMoved), or nil.
func (a *acquisition) met(responses []*pb.ResponseOp) error {
	if len(responses) == 0 {
		return nil
	}
	own := a.q.belongings(a.parts[0].n.keys, responses)
	moved := a.q.home != nil && a.q.home.saw(own.home, a.came)
	if a.req.OnePerLease && (own.grant != nil || own.waits() != nil) {
		return &ownError{own}
	}
	if moved {
		return errMoved
	}
	return nil
}

// stayedAway tells whether an Enter was refused because the home moved.
func (a *acquisition) stayedAway(responses []*pb.ResponseOp) bool {
	if a.q.home == nil {
		return false
	}
	own := a.q.belongings(a.parts[0].n.keys, responses)
	return a.q.home.saw(own.home, a.came)
}

// triesBriefly tells whether a Try may leave out all that it would read if it
// were refused, which is most of it: it is sent again in full then.
func (a *acquisition) triesBriefly() bool {
	return a.req.OnePerLease && a.req.Mode == Exclusive && a.isHome()
}

// heldByOthers is why permits that do not fit are refused: as a rule they are
// others'.
func (a *acquisition) heldByOthers(ctx context.Context) error {
	if a.req.OnePerLease {
		resp, err := a.q.e.Client().Txn(ctx).Then(a.readOwn()...).Commit()
		if err != nil {
			return err
		}
		if own := a.q.belongings(a.parts[0].n.keys, resp.Responses); own.grant != nil || own.waits() != nil {
			return &ownError{own}
		}
	}
	return &HeldError{Name: a.req.Names[0]}
}

// readMine reads why an Enter of the only one of its lease put no ticket: an
// earlier request did, or something else of the lease stands, or (neither) a
// limit.
func (a *acquisition) readMine(r commit.Result) (t *tenure, inLine bool, err error) {
	own := a.q.belongings(a.parts[0].n.keys, r.Responses)
	for _, kv := range own.tickets {
		if string(kv.Key) == a.parts[0].ticket {
			return a.standing(kv), true, nil
		}
	}
	if own.grant != nil || len(own.tickets) > 0 {
		return nil, false, &ownError{own}
	}
	return nil, false, nil
}
