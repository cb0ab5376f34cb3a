package waitqueue

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
)

// An acquisition is one attempt to own, from the first request to the end of
// the ownership. Its id is in all its keys and was never used before.
type acquisition struct {
	q        *Queue
	req      *Request
	id       string
	record   Record
	rec      string // the record encoded, the same bytes in every request
	parts    []part // one for each name
	line     *line  // the local line it stands in, if its mode has one
	shadow   clientv3.LeaseID
	set      string   // key of the set's record
	prefixes []string // of the names

	onePart   [1]part // what parts and prefixes are in, as a rule
	onePrefix [1]string

	uncertain bool // some request has an unknown outcome; used by one goroutine at a time
	entered   bool // its tickets are in line
	fullEnter bool // etcd refused the brief one
	fullTry   bool // the same of Try
	full      bool // etcd is out of space and takes no void record

	first *engine.Pending // a brief Try that is under way; nil if there is none

	came    arrival // of the latest arriving request
	adopted int64   // revision of the void record that makes a this host's, if another's made it
	told    bool    // another call may have been told of what it owns
	moves   bool    // its release moves the session's home here
	gave    bool    // a value may stand that its end takes back; guarded by its Owned

	start chan handed // what a local predecessor passes on; nil unless it has one

	mu     sync.Mutex
	seen   sightings
	cut    context.CancelCauseFunc // ends the request under way when seen changes
	signal chan struct{}           // something was seen
}

// A part is an acquisition's share of one name.
type part struct {
	n      *name
	own    string // the grant key
	ticket string
	create int64      // the ticket's create revision; 0 before it is in line
	view   permitView // on which the latest request was built
}

// sightings are what watches told and nobody has looked at yet.
type sightings struct {
	granted *mvccpb.KeyValue // own ticket, granted
	gone    bool             // own ticket, deleted
	look    bool             // the blocking key is gone, or a watch was lost
}

func (q *Queue) newAcquisition(req *Request, names []*name) *acquisition {
	return q.acquisitionOf(q.e.NewID(), req, names)
}

// acquisitionOf is the acquisition with an id, which another host may have made.
func (q *Queue) acquisitionOf(id string, req *Request, names []*name) *acquisition {
	a := &acquisition{q: q, req: req, id: id, signal: make(chan struct{}, 1)}
	a.parts, a.prefixes = a.onePart[:0], a.onePrefix[:0]
	b := req.bucket()
	for _, n := range names {
		a.add(part{n: n, own: n.own(req.Mode, a.id), ticket: n.ticket(b, a.id)})
	}
	a.record = q.record
	r := &a.record
	r.ID, r.Mode, r.Purpose, r.Value, r.Permits, r.Priority = a.id, req.Mode, req.Purpose, req.Value, req.Permits, req.Priority
	r.Zone, r.Rank = req.Zone, req.Rank
	r.Grace, r.Since = req.Grace.Milliseconds(), time.Now().UTC()
	if req.Mode == Set {
		a.set = a.parts[0].n.set(a.id)
		r.Set = a.set
	}
	a.rec = r.encode(q.common)
	return a
}

// proof is the key whose revision is the token.
func (a *acquisition) proof() string {
	if a.req.Mode == Set {
		return a.set
	}
	return a.parts[0].own
}

func (a *acquisition) bucket() bucket { return a.req.bucket() }

// scope names what the transactions of a touch: transactions of one name never
// share a batch.
func (a *acquisition) scope() []string { return a.prefixes }

// add gives a another name.
func (a *acquisition) add(p part) {
	a.parts = append(a.parts, p)
	a.prefixes = append(a.prefixes, p.n.prefix)
}

func (a *acquisition) txn(cmps []clientv3.Cmp, then, otherwise []clientv3.Op) commit.Txn {
	return commit.Txn{Scope: a.scope(), If: cmps, Then: then, Else: otherwise}
}

// likely marks a transaction whose comparisons almost always hold.
func likely(t commit.Txn) commit.Txn {
	t.Likely = true
	return t
}

func (a *acquisition) lease() clientv3.OpOption { return clientv3.WithLease(a.q.e.Lease()) }

// ticketValue is the value of a's tickets while they wait.
func (a *acquisition) ticketValue() ticketValue {
	return ticketValue{V: recordVersion, Record: json.RawMessage(a.rec), Mode: a.req.Mode,
		Permits: a.req.Permits, Delay: int64(a.req.Delay), Shadow: int64(a.shadow)}
}

func (a *acquisition) putTicket(p *part) clientv3.Op {
	value := a.ticketValue()
	return clientv3.OpPut(p.ticket, value.encode(), a.lease())
}

func (a *acquisition) putVoid() clientv3.Op {
	return clientv3.OpPut(a.parts[0].n.void(a.id), a.ownVoid(), a.lease())
}

// ownVoid is the void record of an acquisition that its own host gives up.
func (a *acquisition) ownVoid() string {
	if !a.req.OnePerLease {
		return ""
	}
	return mustJSON(voidValue{V: recordVersion, By: a.id, Why: whyOver})
}

// failed notes what an error leaves open. A member that a request brings to its
// quota applies the request and answers that it has no space all the same.
func (a *acquisition) failed(err error) {
	a.full = a.full || errors.Is(err, rpctypes.ErrNoSpace)
	a.uncertain = a.uncertain || a.full || errors.Is(err, commit.ErrUnknown)
}

// see records what a watch told, and wakes whoever drives the acquisition.
func (a *acquisition) see(f func(*sightings)) {
	a.mu.Lock()
	f(&a.seen)
	cut, final := a.cut, a.seen.granted != nil || a.seen.gone
	a.mu.Unlock()
	if cut != nil && final {
		cut(errSeen)
	}
	select {
	case a.signal <- struct{}{}:
	default:
	}
}

// take returns what was seen since the last take.
func (a *acquisition) take() sightings {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.seen
	a.seen = sightings{}
	return s
}

// onTicket is told of every event on one of a's tickets.
func (a *acquisition) onTicket(ev *clientv3.Event) {
	switch {
	case ev.Type == mvccpb.DELETE:
		a.see(func(s *sightings) { s.gone = true })
	case ev.Kv.Version != waiting && a.req.Mode != Set:
		a.see(func(s *sightings) { s.granted = ev.Kv })
	}
}
