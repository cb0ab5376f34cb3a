package waitqueue

import (
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// free takes the names' views, and holds when a's names can be taken at once: nobody owns what it wants,
// and nobody waits before it.
func (a *acquisition) free() []clientv3.Cmp {
	var cmps []clientv3.Cmp
	for i := range a.parts {
		p, n := &a.parts[i], a.parts[i].n
		p.view = n.sees()
		switch {
		case a.req.Mode == Permits:
			cmps = append(cmps, p.freePermits(a.req)...)
		case p.view.stale():
			cmps = append(cmps, p.freeStale()...)
		case a.req.Mode == Shared:
			// The own key too: sharers do not conflict, so that a late copy of
			// the request would write it again, with another revision.
			cmps = append(cmps, absent(n.grant()), absent(n.limit()), absent(n.shadow()), absent(p.own), idle(n.line()))
		default:
			cmps = append(cmps, absentIn(n.owners()), absentIn(n.sharers()), idle(n.line()))
		}
	}
	return cmps
}

// grant writes a's grants with the record rec.
func (a *acquisition) grant(rec string) []clientv3.Op {
	ops := make([]clientv3.Op, 0, len(a.parts)) // large ones: to grow shows in profiles
	for i := range a.parts {
		p := &a.parts[i]
		ops = append(ops, clientv3.OpPut(p.own, rec, a.lease()))
		if a.shadow != 0 {
			ops = append(ops, clientv3.OpPut(p.n.shadow(), a.shadowValue(), clientv3.WithLease(a.shadow)))
		}
	}
	if a.req.Mode == Set {
		ops = append(ops, clientv3.OpPut(a.set, a.rec, a.lease()))
	}
	return ops
}

func (a *acquisition) shadowValue() string { return shadowValue(a.id, a.req.Delay) }

// takeFree writes a's grants on free names, and with them what permits need.
func (a *acquisition) takeFree() []clientv3.Op {
	ops := a.grant(a.rec)
	for i := range a.parts {
		ops = append(ops, a.parts[i].limitOps(a.req)...)
	}
	return ops
}

// tryTxn takes the names if they are free, and writes nothing if not. With
// tell, its reply says who owns them; a brief one says nothing.
func (a *acquisition) tryTxn(tell, brief bool) commit.Txn {
	owners := a.readOwners(tell && !brief)
	if a.bare() {
		cmps := append(make([]clientv3.Cmp, 0, 2), absentIn(a.parts[0].n.all())) // the home's follows
		return a.arriving(likely(a.txn(cmps, a.grant(a.rec), owners)), brief)
	}
	cmps := append(a.free(), absent(a.parts[0].n.void(a.id)))
	if a.req.OnePerLease && a.req.Mode != Exclusive { // which could be beside its own
		cmps = append(cmps, a.sharesNothing()...)
	}
	return a.arriving(likely(a.txn(cmps, a.takeFree(), owners)), brief)
}

func (a *acquisition) readOwners(tell bool) []clientv3.Op {
	if !tell {
		return nil
	}
	ops := make([]clientv3.Op, len(a.parts))
	for i := range a.parts {
		ops[i] = get(a.parts[i].n.owners())
	}
	return ops
}

// bare tells whether one comparison may do for a try: an exclusive owner can
// have a name below which there is nothing at all, as is usual.
func (a *acquisition) bare() bool {
	n := a.parts[0].n
	n.mu.Lock()
	defer n.mu.Unlock()
	return a.req.Mode == Exclusive && !n.littered
}

// enterTxn takes the names if they are free, else puts the tickets in line.
// Every attempt carries all guards, the first one too: a late copy must not
// overwrite a ticket, which would read as granted. Its branches, in order:
// taken; taken by an earlier attempt; in line; in line by an earlier attempt.
func (a *acquisition) enterTxn() commit.Txn {
	free := a.free()
	if a.set != "" {
		free = a.bareSet()
	}
	if free != nil && a.req.OnePerLease && a.req.Mode != Exclusive {
		free = append(free, a.sharesNothing()...)
	}
	var fresh []clientv3.Cmp
	var puts, gets []clientv3.Op
	for i := range a.parts {
		p := &a.parts[i]
		fresh = append(fresh, absent(p.ticket), p.limitGuard(a.req))
		puts = append(puts, a.putTicket(p))
		gets = append(gets, clientv3.OpGet(p.ticket))
	}
	if a.set != "" {
		// A set that was taken by an earlier attempt and lost a name by force
		// since must not stand in line behind what is left of it.
		fresh = append(fresh, absent(a.set))
		gets = append(gets, clientv3.OpGet(a.set))
	}
	if a.req.OnePerLease {
		fresh, gets = append(fresh, a.nothingOwn()...), a.readOwn()
	}
	mine := []clientv3.Cmp{clientv3.Compare(clientv3.Value(a.proof()), "=", a.rec)}
	if len(a.parts) == 1 { // for a set it would be too many operations; Void does it
		puts = append(puts, a.dropShadows()...)
	}
	inLine := nested(fresh, puts, gets)
	earlier := nested(mine, []clientv3.Op{clientv3.OpGet(a.proof())}, []clientv3.Op{inLine})
	branch := nested([]clientv3.Cmp{never(a.proof())}, nil, []clientv3.Op{earlier})
	if free != nil {
		branch = nested(free, a.takeFree(), []clientv3.Op{earlier})
	}
	return a.arriving(a.txn([]clientv3.Cmp{absent(a.parts[0].n.void(a.id))}, []clientv3.Op{branch}, nil), false)
}

// queues tells whether a brief Enter may do, which only puts the ticket: the name
// is likely to be owned, and no request of a is under way that could take it.
func (a *acquisition) queues() bool {
	return a.req.Mode == Exclusive && a.shadow == 0 && !a.uncertain && !a.fullEnter && a.parts[0].n.isCrowded() && a.isHome()
}

// queueTxn is Enter for a name that somebody else owns: in that state it does
// what enterTxn does, in any other nothing. The comparison of a value fails for
// a key that is missing, so that one tells that there is another's grant.
func (a *acquisition) queueTxn() commit.Txn {
	p := &a.parts[0]
	cmps := []clientv3.Cmp{absent(p.n.void(a.id)), notValue(p.own, a.rec), absent(p.ticket), absent(p.n.limit())}
	cmps = append(cmps, a.staying()...)
	return likely(a.txn(cmps, []clientv3.Op{a.putTicket(p)}, nil))
}

// readQueued reads the reply of queueTxn, and reports whether a is in line.
func (a *acquisition) readQueued(r commit.Result) bool {
	a.fullEnter = !r.Succeeded
	if r.Succeeded {
		a.parts[0].create, a.entered = r.Revision, true
	}
	return r.Succeeded
}

// bareSet holds when below none of a set's names there is anything but void
// records. With the exact comparisons thirty names would be too many operations
// for one Enter; a set that is in line for no better reason looks, and claims.
func (a *acquisition) bareSet() []clientv3.Cmp {
	cmps := make([]clientv3.Cmp, len(a.parts))
	for i := range a.parts {
		n := a.parts[i].n
		cmps[i] = absentIn(span{n.grant(), n.sharers().end})
	}
	return cmps
}

// claimTxn takes the names for the tickets that a look found first and free.
func (a *acquisition) claimTxn(v *sight) commit.Txn {
	var cmps []clientv3.Cmp
	owner := a.record
	owner.Since = time.Now().UTC()
	then := a.grant(owner.encode(a.q.common))
	value := a.ticketValue()
	value.Granted = true
	for i := range a.parts {
		p := &a.parts[i]
		n := p.n
		cmps = append(cmps, unmodified(p.ticket, p.create))
		switch a.req.Mode {
		case Shared:
			cmps = append(cmps, absent(n.grant()), absent(n.shadow()), noneNewer(n.above(a.bucket()), v.rev))
		case Permits:
			cmps = append(cmps, noneNewer(n.holds(), v.rev), absent(n.grant()), idle(n.above(a.bucket())))
		default:
			cmps = append(cmps, absentIn(n.owners()), absentIn(n.sharers()), idle(n.above(a.bucket())))
		}
		then = append(then, clientv3.OpPut(p.ticket, mustJSON(value), a.lease()))
	}
	return a.txn(cmps, then, nil)
}

// cancelTxn takes the tickets out of the line unless they were granted.
func (a *acquisition) cancelTxn() commit.Txn {
	cmp := unmodified(a.parts[0].ticket, a.parts[0].create)
	if a.req.Mode == Set {
		cmp = absent(a.set)
	}
	cmps, otherwise := []clientv3.Cmp{cmp}, a.getOwn()
	if a.req.OnePerLease {
		cmps, otherwise = append(cmps, a.responsible()), append(otherwise, clientv3.OpGet(a.parts[0].n.void(a.id)))
	}
	var then []clientv3.Op
	for i := range a.parts {
		then = append(then, clientv3.OpDelete(a.parts[i].ticket))
	}
	if a.uncertain && !a.full {
		then = append(then, a.putVoid())
	}
	return a.txn(cmps, then, otherwise)
}

// voidTxn makes every request of a that may still be applied fail.
func (a *acquisition) voidTxn() commit.Txn {
	then := append(a.getOwn(), a.dropShadows()...)
	if !a.full { // the reply that said so was no lost one
		then = append(then, a.putVoid())
	}
	if a.req.OnePerLease {
		return a.txn([]clientv3.Cmp{a.responsible()}, then, append(a.getOwn(), clientv3.OpGet(a.parts[0].n.void(a.id))))
	}
	return a.txn(nil, then, nil)
}

// dropShadows removes shadows of grants that an earlier request took and a hand
// in the keys deleted since: nobody else would, as long as the session lives.
func (a *acquisition) dropShadows() []clientv3.Op {
	if a.shadow == 0 {
		return nil
	}
	var ops []clientv3.Op
	for i := range a.parts {
		key := a.parts[i].n.shadow()
		ops = append(ops, nested([]clientv3.Cmp{unmodifiedValue(key, a.shadowValue()), absent(a.parts[i].own)},
			[]clientv3.Op{clientv3.OpDelete(key)}, nil))
	}
	return ops
}

// getOwn reads whether a waits or owns.
func (a *acquisition) getOwn() []clientv3.Op {
	return []clientv3.Op{clientv3.OpGet(a.parts[0].ticket), clientv3.OpGet(a.proof())}
}
