package waitqueue

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
)

// levels is how many hints one request tries in turn; more would only cost
// bytes. maxBatch bounds how many sharers one request grants; the rest claim
// for themselves.
const (
	levels   = 2
	maxBatch = 48
)

// A level is one way to let a name go. A request nests them: if the guards of
// one fail, the next one is tried.
type level struct {
	cmps []clientv3.Cmp
	ops  []clientv3.Op
}

// build makes the request. The committer calls it when it forms the batch, so
// that a release that was queued still finds who came meanwhile.
func (p *pass) build() commit.Txn {
	p.choose()
	p.brief = p.brevity()
	p.attempts++
	switch p.brief {
	case freeing:
		return p.releaseTxn()
	case handing:
		return p.handoverTxn()
	}
	if len(p.parts) == 1 {
		cmps, then, otherwise := p.passOps(&p.parts[0])
		if p.isGivenUp() {
			return p.t.a.txn([]clientv3.Cmp{p.t.a.responsible()}, []clientv3.Op{nested(cmps, then, otherwise)}, nil)
		}
		return p.t.a.txn(cmps, then, otherwise)
	}
	ops := p.setOps()
	for i := range p.parts {
		if !p.parts[i].done {
			ops = append(ops, nested(p.passOps(&p.parts[i])))
		}
	}
	return p.t.a.txn(nil, ops, nil)
}

// brevity tells how much has to be sent: little, as a rule, of an exclusive
// owner's first request. One who waited in no line and knows nobody who waits
// frees the name; one who knows that a writer is next hands over to it.
func (p *pass) brevity() brevity {
	a, part := p.t.a, &p.parts[0]
	if a.req.Mode != Exclusive || p.force != nil || p.attempts > 0 || p.bare || a.moves || part.heir != nil || p.isGivenUp() || p.t.lastWord() != "" {
		return full
	}
	part.open(1)
	switch {
	case len(part.hints) > 0 && part.hints[0].Mode == Exclusive:
		return handing
	case !p.t.inLine && !a.uncertain && !a.gave && a.shadow == 0 && !part.p.n.isCrowded() && (p.next == nil || p.next.shadow == 0):
		return freeing
	}
	return full
}

// handoverTxn is the pass to the first hint. If that is not the first in line
// any more it does nothing.
func (p *pass) handoverTxn() commit.Txn {
	part := &p.parts[0]
	l, _ := p.levelFor(part, part.hints)
	return likely(p.t.a.txn(append([]clientv3.Cmp{unmodified(part.p.own, part.rev)}, l.cmps...), l.ops, nil))
}

// releaseTxn is the pass of a name for which nobody waits. If somebody waits it does nothing.
func (p *pass) releaseTxn() commit.Txn {
	n := p.parts[0].p.n
	then := clientv3.OpDelete(n.grant())
	if p.next != nil {
		then = clientv3.OpPut(n.grant(), p.next.rec, p.t.a.lease())
	}
	var cmps []clientv3.Cmp
	switch {
	case !n.isLittered():
		// Nobody in line, and no void record of the successor: as a rule there is
		// nothing at all but the grant. No other key of the name was written with it.
		cmps = []clientv3.Cmp{unmodifiedIn(n.all(), p.t.rev)}
	case p.next != nil:
		cmps = []clientv3.Cmp{unmodified(n.grant(), p.t.rev), idle(n.line()), absent(n.void(p.next.id))}
	default:
		cmps = []clientv3.Cmp{unmodified(n.grant(), p.t.rev), idle(n.line())}
	}
	return likely(p.t.a.txn(cmps, []clientv3.Op{then}, nil))
}

// setOps are the operations of a set's pass that concern no single name.
func (p *pass) setOps() []clientv3.Op {
	if p.t.a.req.Mode != Set || len(p.parts) == 1 {
		return nil
	}
	ops := []clientv3.Op{clientv3.OpDelete(p.t.a.set)}
	if p.t.a.uncertain {
		ops = append(ops, p.t.a.putVoid())
	}
	return ops
}

// choose takes the local successor from the line, once. From then on its
// record is final: it is how a lost reply is recognised.
func (p *pass) choose() {
	if p.chosen || p.t.a.line == nil {
		return
	}
	p.chosen = true
	p.next = p.t.a.line.next()
	if p.next == nil {
		return
	}
	n := p.next.parts[0].n
	p.next.record.Prev, p.next.record.Since = p.prev(), time.Now().UTC()
	p.next.rec = p.next.record.encode(p.next.q.common)
	p.inLine = n.watched(p.next.bucket())
	if p.inLine {
		n.expect(p.next, p.next.parts[0].ticket)
	}
}

// prev is what the next owner's record says of this one.
func (p *pass) prev() *Prev {
	if p.force != nil {
		return p.force
	}
	return p.t.prev()
}

// passOps is the pass of one name.
func (p *pass) passOps(part *passPart) ([]clientv3.Cmp, []clientv3.Op, []clientv3.Op) {
	a := p.t.a
	chain := p.chain(p.plan(part), part)
	if p.bare {
		chain = p.leave(part, nil)
	} else if a.req.Mode == Shared {
		// Only the last sharer hands over.
		before, after := around(part.p.n.reads(), part.p.own)
		chain = []clientv3.Op{nested([]clientv3.Cmp{absentIn(before), absentIn(after)}, chain, p.leave(part, nil))}
	}
	// If the grant is not ours any more, the ticket is of no use to anybody, nor
	// is the shadow, unless the next owner has one of its own.
	otherwise := p.voided([]clientv3.Op{clientv3.OpGet(part.p.own), clientv3.OpDelete(part.p.ticket)})
	otherwise = append(otherwise, p.takenBack(part)...)
	if a.shadow != 0 {
		otherwise = append(otherwise, nested([]clientv3.Cmp{clientv3.Compare(clientv3.Value(part.p.n.shadow()), "=", a.shadowValue())},
			[]clientv3.Op{clientv3.OpDelete(part.p.n.shadow())}, nil))
	}
	return []clientv3.Cmp{unmodified(part.p.own, part.rev)}, chain, otherwise
}

// around splits s at key.
func around(s span, key string) (before, after span) {
	return span{s.from, key}, span{key + "\x00", s.end}
}

// plan decides how to let a name go, by what is known of its line.
func (p *pass) plan(part *passPart) []level {
	part.plan = nil
	part.open(levels)
	if part.heir != nil {
		part.plan = append(part.plan, p.heirLevel(part))
	}
	for i := 0; i < len(part.hints) && i < levels; i++ {
		l, last := p.levelFor(part, part.hints[i:])
		part.plan = append(part.plan, l)
		if last {
			break
		}
	}
	return part.plan
}

// open looks into as many hints as a request can use: one for each of its
// levels, or, when the first in line can share, all.
func (part *passPart) open(levels int) {
	n := min(levels-len(part.hints), len(part.more))
	if n <= 0 {
		return
	}
	if len(part.hints) == 0 {
		if m := openHint(part.more[0]).Mode; m == Shared || m == Permits {
			n = len(part.more)
		}
	}
	part.hints, part.more = append(part.hints, openHints(part.more[:n])...), part.more[n:]
}

// levelFor serves the first of the hints; last says that no other level may follow.
func (p *pass) levelFor(part *passPart, hints []hint) (l level, last bool) {
	h := hints[0]
	b, _, err := part.p.n.ticketID(h.Key)
	switch {
	case err != nil && strings.HasPrefix(h.Key, part.p.n.line().from): // no ticket, but it stands where only tickets do
		return level{[]clientv3.Cmp{unmodified(h.Key, h.Create)}, p.withNext(p.leave(part, nil))}, false
	case err != nil:
		return level{cmps: []clientv3.Cmp{never(h.Key)}}, false
	}
	first := idle(part.p.n.above(b))
	stands := unmodified(h.Key, h.Create)
	switch h.Mode {
	case Exclusive:
		return level{[]clientv3.Cmp{stands, first}, p.handOver(part, &h, p.prev(), slices.Concat(encodeHints(hints[1:]), part.more))}, false
	case Shared, Permits:
		if batch := p.batch(hints, b, part); len(batch) > 0 {
			return level{[]clientv3.Cmp{first}, p.share(part, batch)}, true
		}
	}
	// A set takes its names itself, all at once; permits that do not fit yet
	// wait for more. Either holds the head of the line.
	return level{[]clientv3.Cmp{stands, first}, p.withNext(p.leave(part, nil))}, false
}

// batch returns the hints that can own together from now on: sharers, or
// permits that fit into those given back. It never leaves one out between.
func (p *pass) batch(hints []hint, b bucket, part *passPart) []hint {
	room := p.t.a.req.Permits
	for i, h := range hints {
		hb, _, err := part.p.n.ticketID(h.Key)
		same := err == nil && hb == b && h.Mode == hints[0].Mode
		if h.Mode == Permits {
			room -= h.ticketValue.Permits
			same = same && room >= 0
		}
		if !same || i == maxBatch {
			return hints[:i]
		}
	}
	return hints
}

// chain nests the levels, and at the end frees the name if nobody waits.
func (p *pass) chain(plan []level, part *passPart) []clientv3.Op {
	if len(plan) > 0 {
		return []clientv3.Op{nested(plan[0].cmps, plan[0].ops, p.chain(plan[1:], part))}
	}
	n := part.p.n
	read := []clientv3.Op{
		first(n.line(), hintCount+levels),
		get(n.line(), clientv3.WithLimit(1), clientv3.WithKeysOnly()),
	}
	cmps := []clientv3.Cmp{idle(n.line())}
	if p.next != nil {
		cmps = append(cmps, p.nextIsNew()...)
	}
	return []clientv3.Op{nested(cmps, p.free(part), read)}
}

// free lets the name go when nobody else waits: the local successor owns it,
// if there is one.
func (p *pass) free(part *passPart) []clientv3.Op {
	a, n := p.t.a, part.p.n
	if p.next != nil {
		ops := []clientv3.Op{clientv3.OpPut(n.grant(), p.next.rec, a.lease()), clientv3.OpDelete(part.p.ticket)}
		ops = append(ops, p.shadowOps(part, p.next.shadow, func() string { return p.next.shadowValue() })...)
		return p.voided(ops)
	}
	ops := p.leave(part, nil)
	if p.t.lastWord() != "" && !a.uncertain { // else it is there already
		ops = append(ops, p.putVoid())
	}
	if a.req.Mode == Permits {
		before, after := around(n.holds(), part.p.own)
		ops = append(ops, nested([]clientv3.Cmp{absentIn(before), absentIn(after)},
			[]clientv3.Op{clientv3.OpDelete(n.limit())}, nil))
	}
	return ops
}

// handOver makes h the exclusive owner.
func (p *pass) handOver(part *passPart, h *hint, prev *Prev, rest []json.RawMessage) []clientv3.Op {
	n := part.p.n
	ops := []clientv3.Op{
		clientv3.OpPut(n.grant(), h.grant(prev), h.leaseOpt()),
		clientv3.OpPut(h.Key, h.granted(0, rest), h.leaseOpt()),
	}
	return p.withNext(append(ops, p.leave(part, h)...))
}

// share makes all of batch owners beside each other.
func (p *pass) share(part *passPart, batch []hint) []clientv3.Op {
	return p.withNext(append(p.leave(part, nil), p.admit(part, batch, 0)...))
}

// admit makes each of batch that still waits an owner. Grants of one
// transaction differ in the index of their tokens, from the given one on.
func (p *pass) admit(part *passPart, batch []hint, index int) []clientv3.Op {
	n := part.p.n
	var ops []clientv3.Op
	for i, h := range batch {
		_, id, _ := n.ticketID(h.Key)
		ops = append(ops, nested([]clientv3.Cmp{unmodified(h.Key, h.Create)}, p.grantOps(part, &h, id, index+i), nil))
	}
	return ops
}

// grantOps makes h an owner beside others.
func (p *pass) grantOps(part *passPart, h *hint, id string, index int) []clientv3.Op {
	return []clientv3.Op{
		clientv3.OpPut(part.p.n.own(h.Mode, id), h.grant(p.prev()), h.leaseOpt()),
		clientv3.OpPut(h.Key, h.granted(index, nil), h.leaseOpt()),
	}
}

// leave removes the own keys of a name, whose grant goes to heir or to nobody.
func (p *pass) leave(part *passPart, heir *hint) []clientv3.Op {
	var ops []clientv3.Op
	if p.t.inLine || p.t.a.uncertain {
		ops = append(ops, clientv3.OpDelete(part.p.ticket))
	}
	switch {
	case p.broken != "": // one name forced out of a set ends the set
		ops = append(ops, clientv3.OpPut(p.t.a.set, p.broken, clientv3.WithLease(p.lease)))
	case p.t.a.req.Mode == Set && len(p.parts) == 1:
		ops = append(ops, clientv3.OpDelete(p.t.a.set))
	}
	if heir == nil || part.p.own != part.p.n.grant() {
		ops = append(ops, clientv3.OpDelete(part.p.own))
	}
	if heir != nil {
		ops = append(ops, p.shadowOps(part, heir.shadowLease(), func() string { return heir.shadowValue() })...)
	} else {
		ops = append(ops, p.shadowOps(part, 0, nil)...)
	}
	if p.t.a.moves && !p.bare {
		ops = append(ops, p.t.a.q.home.put())
	}
	ops = append(ops, p.takenBack(part)...)
	return p.voided(ops)
}

// shadowOps moves the shadow to the heir's lease, or removes it.
func (p *pass) shadowOps(part *passPart, heir clientv3.LeaseID, value func() string) []clientv3.Op {
	switch {
	case heir != 0 && !p.plain:
		return []clientv3.Op{clientv3.OpPut(part.p.n.shadow(), value(), clientv3.WithLease(heir))}
	case p.t.a.shadow != 0:
		return []clientv3.Op{clientv3.OpDelete(part.p.n.shadow())}
	}
	return nil
}

// voided adds the void record of an acquisition with an unknown outcome. That
// of a set is written once, not with every name.
func (p *pass) voided(ops []clientv3.Op) []clientv3.Op {
	if p.t.a.uncertain && (p.t.a.req.Mode != Set || len(p.parts) == 1) {
		ops = append(ops, p.putVoid())
	}
	return ops
}

// putVoid says that the acquisition is over, and why if no next owner's record
// can.
func (p *pass) putVoid() clientv3.Op {
	a := p.t.a
	if text := p.t.lastWord(); text != "" {
		return clientv3.OpPut(a.parts[0].n.void(a.id), mustJSON(voidValue{V: recordVersion, By: text, Why: CauseUnhealthy}), a.lease())
	}
	return a.putVoid()
}

// withNext puts the local successor's ticket at the end of the line.
func (p *pass) withNext(ops []clientv3.Op) []clientv3.Op {
	if p.next != nil && p.inLine {
		ops = append(ops, nested(p.nextIsNew(), []clientv3.Op{p.next.putTicket(&p.next.parts[0])}, nil))
	}
	return ops
}

// nextIsNew holds as long as the local successor has done nothing by itself,
// which it begins to do when this pass is given up with an unknown outcome: a
// late copy of the pass must not put its ticket again, or give it the name.
func (p *pass) nextIsNew() []clientv3.Cmp {
	part := &p.next.parts[0]
	return []clientv3.Cmp{absent(part.ticket), absent(part.n.void(p.next.id))}
}
