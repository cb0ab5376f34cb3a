package waitqueue

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
)

// readPart follows the reply of one name's pass down to the branch taken, and
// reports whether the name was let go.
func (p *pass) readPart(part *passPart, r commit.Result) bool {
	if p.bare {
		p.handed = true // to whoever claims
		return true
	}
	if p.t.a.req.Mode == Shared {
		r = r.Nested(0)
		if !r.Succeeded {
			return true // others share on
		}
	}
	for range part.plan {
		if r = r.Nested(0); r.Succeeded {
			p.handed = true
			return true
		}
	}
	if r = r.Nested(0); r.Succeeded {
		p.freed = true
		part.p.n.setCrowded(false)
		if p.attempts == 2 && p.refused { // but not because of anybody
			part.p.n.litter()
		}
		return true
	}
	part.saw(kvs(r, 0), kv(r, 1))
	return false
}

// readRelease reads the reply of the brief pass. A refusal says no more than
// that the full one is needed.
func (p *pass) readRelease(r commit.Result) bool {
	if r.Succeeded {
		p.freed = true
		return true
	}
	p.parts[0].p.n.setCrowded(true)
	p.refused = true
	return false
}

// readOldest takes the oldest tickets of the own bucket as hints, as the nearest
// member knows them: guards decide what they are worth. Without an answer the
// pass goes on with what it knows, and learns more from its own reply.
func (part *passPart) readOldest(ctx context.Context, e *engine.Engine) {
	ctx, cancel := context.WithTimeout(ctx, min(time.Second, e.TTL()/8))
	defer cancel()
	b, _, err := part.p.n.ticketID(part.p.ticket)
	if err != nil {
		return
	}
	resp, err := e.Client().Do(ctx, first(part.p.n.bucket(b), hintCount+levels, clientv3.WithSerializable()))
	if err == nil {
		part.hints = part.others(resp.Get().Kvs)
	}
}

// others are the tickets that wait, but for the own one: it may have been
// granted since they were read.
func (part *passPart) others(tickets []*mvccpb.KeyValue) []hint {
	return slices.DeleteFunc(lineOf(tickets), func(h hint) bool { return h.Key == part.p.ticket })
}

// saw takes the oldest tickets of the line as hints. They are the first in line
// only if all are of one bucket; else the whole line has to be read.
func (part *passPart) saw(oldest []*mvccpb.KeyValue, top *mvccpb.KeyValue) {
	part.hints, part.more = part.others(oldest), nil
	part.short = len(part.hints) == 0
	if part.short || top == nil {
		return
	}
	urgent, _, _ := part.p.n.ticketID(string(top.Key))
	for _, kv := range oldest {
		b, _, err := part.p.n.ticketID(string(kv.Key))
		part.short = part.short || err != nil || b != urgent
	}
}

func (p *pass) needsRead() bool {
	return slices.ContainsFunc(p.parts, func(part passPart) bool { return !part.done && part.short })
}

// readLine reads the whole line. After an error the pass goes on with what it
// knows, and learns more from its next reply.
func (part *passPart) readLine(ctx context.Context, c *clientv3.Client) {
	if part.done || !part.short {
		return
	}
	resp, err := c.Do(ctx, get(part.p.n.line()))
	if err != nil {
		return
	}
	all := lineOf(resp.Get().Kvs)
	part.more = nil
	part.hints, part.short = all[:min(len(all), hintCount+levels)], false
}

// lineOf makes hints of the tickets that wait, the first in line first.
func lineOf(tickets []*mvccpb.KeyValue) []hint {
	hints := make([]hint, 0, len(tickets))
	for _, kv := range tickets {
		if h, ok := hintOf(kv); ok {
			hints = append(hints, h)
		}
	}
	slices.SortFunc(hints, func(a, b hint) int {
		return cmp.Or(cmp.Compare(bucketPart(a.Key), bucketPart(b.Key)), cmp.Compare(a.Create, b.Create))
	})
	return hints
}
