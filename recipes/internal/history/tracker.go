package history

import (
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/waitqueue"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// shortest is the shortest TTL that a session can have. An ownership that lasted
// less did not end because nobody renewed it.
const shortest = 5 * time.Second

// A tracker knows the state of a namespace's names and finds the endings in what
// changes it.
type tracker struct {
	space

	names *state.Names
	alive map[int64]bool // leases whose key stands
}

func newTracker(s space) *tracker {
	t := &tracker{space: s, names: state.NewNames(s.Space), alive: make(map[int64]bool)}
	t.names.Reuse = true // what was found keeps keys and values, and no names
	return t
}

// load takes in a key as it was read.
func (t *tracker) load(kv *mvccpb.KeyValue) {
	if lease, ok := t.leaseOf(string(kv.Key)); ok {
		t.alive[lease] = true
		return
	}
	t.names.Put(kv)
}

// A found is an ending before its records are read, which is only done for those
// that are kept.
type found struct {
	segment string
	kind    state.Kind
	owner   *mvccpb.KeyValue // the ownership that ended
	ticket  *mvccpb.KeyValue // its ticket, or nil
	next    *mvccpb.KeyValue // the owner that it was passed to, or nil
	notice  *state.NoticeValue
	last    *state.LastWord // what the owner left behind when nobody was next, or nil
	left    bool            // its ticket still stands
	// next is the owner itself, as a reader
	downgraded bool
	cause      string
	rev        int64
	seen       time.Time
	bound      bool
}

// apply takes in what one revision did and returns what ended in it. seen is
// the time of it; bound says that it was earlier by an unknown time.
func (t *tracker) apply(rev int64, events []*clientv3.Event, seen time.Time, bound bool) []found {
	gone := t.goneLeases(events)
	whole := turn{events: events}
	var ended []found
	for _, ev := range events {
		if f, ok := t.ending(ev, &whole); ok {
			f.rev, f.seen, f.bound = rev, seen, bound
			f.cause = t.cause(&f, gone)
			if ended == nil {
				ended = make([]found, 0, len(events))
			}
			ended = append(ended, f)
		}
	}
	for _, ev := range events {
		if lease, ok := t.leaseIn(ev); !ok {
			t.names.Apply(ev)
		} else if ev.Type == mvccpb.DELETE {
			delete(t.alive, lease)
		} else {
			t.alive[lease] = true
		}
	}
	return ended
}

// leaseIn returns the lease whose key an event is about. Most are about names.
func (t *tracker) leaseIn(ev *clientv3.Event) (lease int64, ok bool) {
	if !t.IsOwn(ev.Kv.Key) {
		return 0, false
	}
	return t.leaseOf(string(ev.Kv.Key))
}

// goneLeases returns the leases whose keys went in these events.
func (t *tracker) goneLeases(events []*clientv3.Event) map[int64]bool {
	var gone map[int64]bool
	for _, ev := range events {
		if ev.Type != mvccpb.DELETE {
			continue
		}
		if lease, ok := t.leaseIn(ev); ok {
			if gone == nil {
				gone = make(map[int64]bool)
			}
			gone[lease] = true
		}
	}
	return gone
}

// ending tells whether ev ends an ownership that stood before: it deletes its
// key, or puts the next owner's record there.
func (t *tracker) ending(ev *clientv3.Event, whole *turn) (found, bool) {
	segment, rest, ok := t.Split(string(ev.Kv.Key))
	if !ok {
		return found{}, false
	}
	kind, id := state.Parse(rest)
	n := t.names.Get(segment)
	if !kind.Owner() || n == nil || n.Owners[string(ev.Kv.Key)] == nil {
		return found{}, false
	}
	f := found{segment: segment, kind: kind, owner: n.Owners[string(ev.Kv.Key)]}
	if kind != state.Grant {
		f.ticket = n.Granted[id]
	}
	if ev.Type == mvccpb.PUT {
		f.next = ev.Kv
	} else {
		f.next, f.downgraded = t.successor(&f, whole)
	}
	if n.Noticed() {
		f.notice = n.Notice(state.RecordOf(f.owner).ID)
	}
	if f.next == nil {
		f.last = t.lastWord(segment, f.owner, whole)
	}
	f.left = n.LeftTicket(f.owner, func(ticket string) bool { return deletedIn(whole.events, ticket) })
	return f, true
}

// lastWord finds what an owner said of its end in the same transaction.
func (t *tracker) lastWord(segment string, owner *mvccpb.KeyValue, whole *turn) *state.LastWord {
	var void string
	for kv := range whole.puts(t.space, segment) {
		if void == "" {
			void = state.VoidOf(state.RecordOf(owner).ID)
		}
		if _, rest, ok := t.Split(string(kv.Key)); ok && rest == void {
			return state.LastWordOf(kv)
		}
	}
	return nil
}

// successor finds the reader or the owner of permits that was let in by the same
// transaction; downgraded tells that it is the owner itself.
func (t *tracker) successor(f *found, whole *turn) (next *mvccpb.KeyValue, downgraded bool) {
	var id string
	for kv := range whole.puts(t.space, f.segment) {
		if _, rest, ok := t.Split(string(kv.Key)); !ok || !isOwner(rest) {
			continue
		}
		if id == "" {
			id = state.RecordOf(f.owner).ID
		}
		prev := state.RecordOf(kv).Prev
		switch {
		case prev != nil && prev.ID == id:
			return kv, false
		case prev == nil && f.kind == state.Grant && kv.Lease == f.owner.Lease:
			return kv, true
		}
	}
	return nil, false
}

func isOwner(rest string) bool {
	kind, _ := state.Parse(rest)
	return kind.Owner()
}

func deletedIn(events []*clientv3.Event, key string) bool {
	return slices.ContainsFunc(events, func(ev *clientv3.Event) bool {
		return ev.Type == mvccpb.DELETE && string(ev.Kv.Key) == key
	})
}

// cause says why an ownership ended, as far as the events tell. The record of
// the next owner may say later that it was by force.
func (t *tracker) cause(f *found, gone map[int64]bool) string {
	switch {
	case f.downgraded:
		return Downgraded
	case f.next == nil && gone[f.owner.Lease]:
		return SessionEnded
	case f.notice != nil && f.notice.To != nil:
		return Transferred
	case f.notice != nil:
		return Forced
	case f.last != nil:
		return Unhealthy
	case f.next != nil:
		return Released
	case f.left:
		return Deleted
	case t.alive[f.owner.Lease]:
		return Released
	default:
		return Unknown
	}
}

// ending reads the records.
func (f *found) ending() Ending {
	r := state.RecordOf(f.owner)
	e := Ending{ID: r.ID, Token: state.TokenOf(f.owner, f.ticket), Mode: state.ModeName(r.Mode), Permits: r.Permits, Owner: r.Owner,
		Host: r.Host, PID: r.PID, Lease: f.owner.Lease, Purpose: r.Purpose, Since: r.Since, Until: f.seen, Bound: f.bound,
		Cause: f.cause, Revision: f.rev, Value: beginning(r.Value), Zone: r.Zone}
	if f.notice != nil && (e.Cause == Forced || e.Cause == Transferred) {
		e.By, e.Reason = f.notice.By, f.notice.Reason
	}
	if e.Cause == Unhealthy {
		e.unhealthy(f.last.Text)
	}
	if f.next != nil && !f.downgraded {
		f.passed(&e)
	}
	if e.Until.Before(e.Since) {
		e.Until = e.Since // clocks of two processes
	}
	// Too short for an expiry: who releases and closes its session at once looks
	// like this, if the session ended before its key was written.
	if e.Cause == Unknown && e.Until.Sub(e.Since) < shortest {
		e.Cause = Released
	}
	return e
}

// passed adds what the next owner's record tells. It is the best clock too: the
// one that handed the name over.
func (f *found) passed(e *Ending) {
	next := state.RecordOf(f.next)
	e.Passed = true
	if !next.Since.IsZero() {
		e.Until, e.Bound = next.Since, false
	}
	if p := next.Prev; p != nil && p.ID == e.ID {
		e.explain(p)
	}
}

// explain adds why the ownership ended, as the next owner's record says.
func (e *Ending) explain(p *waitqueue.Prev) {
	by, reason, ok := strings.Cut(p.By, ": ")
	switch {
	case p.Cause == waitqueue.CauseUnhealthy:
		e.unhealthy(p.By)
		return
	case p.Cause == waitqueue.CauseReleased && e.Cause == Transferred: // it let go before it knew
		e.Cause, e.By, e.Reason = Released, "", ""
		return
	case p.Cause == waitqueue.CauseTransferred:
		e.Cause = Transferred
	case p.Cause == waitqueue.CauseForced && e.Cause != Transferred: // else the grace was too short
		e.Cause = Forced
	}
	if ok && e.By == "" {
		e.By, e.Reason = by, reason
	}
}

// unhealthy takes in what an owner said that failed its own check.
func (e *Ending) unhealthy(text string) {
	e.Cause, e.By, e.Reason = Unhealthy, "", strings.TrimPrefix(text, e.Owner+": "+Unhealthy+": ")
}

// beginning is the part of a value that a history keeps.
func beginning(value string) string {
	return strings.ToValidUTF8(value[:min(len(value), maxValue)], "")
}
