package state

import (
	"bytes"
	"cmp"
	"slices"
	"strconv"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// waiting is the version of a ticket that waits: granting it puts it again.
const waiting = 1

// A Name is what stands in etcd below one name. Values are kept as they are and
// read when somebody asks, since most never are.
type Name struct {
	Segment string // the name's spelling in keys

	Owners  map[string]*mvccpb.KeyValue // by key
	Granted map[string]*mvccpb.KeyValue // granted tickets, by acquisition
	waiting map[string]*mvccpb.KeyValue // waiting tickets, by acquisition
	notices map[string]*mvccpb.KeyValue // by acquisition
	given   map[string]*mvccpb.KeyValue // values that owners gave later, by acquisition
	limit   *mvccpb.KeyValue
	shadow  bool
}

// Text returns the name as its users write it, or "" if it has a spelling that
// no name has.
func (n *Name) Text() string {
	text, err := keyspace.Unescape(n.Segment)
	if err != nil || keyspace.CheckName("name", text) != nil {
		return ""
	}
	return text
}

// Idle tells that nobody holds the name or waits for it.
func (n *Name) Idle() bool { return len(n.Owners) == 0 && len(n.waiting) == 0 }

// empty tells that nothing is known of the name.
func (n *Name) empty() bool {
	return n.Idle() && len(n.Granted) == 0 && len(n.notices) == 0 && len(n.given) == 0 && n.limit == nil && !n.shadow
}

// Delayed tells that a lock delay keeps the name from everybody.
func (n *Name) Delayed() bool { return n.shadow && len(n.Owners) == 0 }

// Waiting returns how many wait.
func (n *Name) Waiting() int { return len(n.waiting) }

// Limit returns how many permits there are, 0 if the name is no semaphore's.
func (n *Name) Limit() int {
	if n.limit == nil {
		return 0
	}
	limit, err := strconv.Atoi(string(n.limit.Value))
	if err != nil {
		return 0
	}
	return limit
}

// Notice returns the notice to an acquisition, or nil.
func (n *Name) Notice(id string) *NoticeValue {
	kv := n.notices[id]
	if kv == nil {
		return nil
	}
	v := NoticeOf(kv)
	return &v
}

// Noticed tells that somebody is being forced out.
func (n *Name) Noticed() bool { return len(n.notices) > 0 }

// LeftTicket tells whether the ticket that an owner was granted still stands
// and is not among those that gone tells of. A release deletes it too.
func (n *Name) LeftTicket(owner *mvccpb.KeyValue, gone func(key string) bool) bool {
	for _, t := range n.Granted {
		if t.Lease == owner.Lease && t.ModRevision == owner.ModRevision {
			return !gone(string(t.Key))
		}
	}
	return false
}

// Apply takes in one event on a key of the name.
func (n *Name) Apply(rest string, ev *clientv3.Event) {
	kv := ev.Kv
	if ev.Type == mvccpb.DELETE {
		kv = nil
	}
	kind, id := Parse(rest)
	switch kind {
	case Grant, Read, Hold:
		set(&n.Owners, string(ev.Kv.Key), kv)
	case Ticket:
		n.ticket(id, kv)
	case Notice:
		set(&n.notices, id, kv)
	case Given:
		set(&n.given, id, kv)
	case Limit:
		n.limit = kv
	case Shadow:
		n.shadow = kv != nil
	}
}

func (n *Name) ticket(id string, kv *mvccpb.KeyValue) {
	wait, granted := kv, kv
	if kv != nil && kv.Version == waiting {
		granted = nil
	} else {
		wait = nil
	}
	set(&n.waiting, id, wait)
	set(&n.Granted, id, granted)
}

// set puts kv into a map that is made when it is needed, or takes it out.
func set(m *map[string]*mvccpb.KeyValue, key string, kv *mvccpb.KeyValue) {
	switch {
	case kv == nil:
		delete(*m, key)
	case *m == nil:
		*m = map[string]*mvccpb.KeyValue{key: kv}
	default:
		(*m)[key] = kv
	}
}

// Holders returns who holds the name, the smallest token first.
func (n *Name) Holders() []Holder {
	holders := make([]Holder, 0, len(n.Owners))
	for _, kv := range n.Owners {
		r := RecordOf(kv)
		if given, ok := n.given[r.ID]; ok {
			r.Value = givenOf(given)
		}
		holders = append(holders, Holder{Record: r, Token: TokenOf(kv, n.Granted[r.ID]), Lease: kv.Lease, Notice: n.Notice(r.ID)})
	}
	slices.SortFunc(holders, func(a, b Holder) int { return cmp.Compare(a.Token, b.Token) })
	return holders
}

// Waiters returns who waits, the next one first.
func (n *Name) Waiters() []Waiter {
	waiters := make([]Waiter, 0, len(n.waiting))
	for _, kv := range n.waiting {
		waiters = append(waiters, waiterOf(kv))
	}
	slices.SortFunc(waiters, func(a, b Waiter) int {
		return cmp.Or(cmp.Compare(a.urgency, b.urgency), cmp.Compare(a.create, b.create))
	})
	return waiters
}

// First returns who is next in line; ok is false if nobody waits.
func (n *Name) First() (first Waiter, ok bool) {
	for _, kv := range n.waiting {
		w := Waiter{create: kv.CreateRevision, urgency: urgencyOf(kv)}
		if !ok || w.urgency < first.urgency || w.urgency == first.urgency && w.create < first.create {
			first, ok = waiterOf(kv), true
		}
	}
	return first, ok
}

func waiterOf(kv *mvccpb.KeyValue) Waiter {
	u := urgencyOf(kv)
	return Waiter{Record: ticketOf(kv).Record, Lease: kv.Lease, Priority: u.priority(), urgency: u, create: kv.CreateRevision}
}

// urgencyOf reads a ticket's urgency from its key, which ends in line/<b>/<acq>.
func urgencyOf(kv *mvccpb.KeyValue) urgency {
	key := kv.Key[:max(0, bytes.LastIndexByte(kv.Key, '/'))]
	u, _ := parseUrgency(string(key[bytes.LastIndexByte(key, '/')+1:]))
	return u
}
