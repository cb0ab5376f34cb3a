package state

import (
	"encoding/json"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/conclavehq/conclave/internal/waitqueue"
)

// A NoticeValue tells an owner that it is forced out, or has to let go in favour
// of another one.
type NoticeValue struct {
	By     string `json:"by"`
	Reason string `json:"reason"`
	To     *Heir  `json:"to"` // nil: whoever is first in line
}

// A LastWord is what an owner leaves behind that failed its own check when nobody
// was next, whose record would have said so.
type LastWord struct {
	Text string `json:"by"`
	Why  string `json:"why"`
}

// VoidOf is what follows a name's delimiter in the key of an acquisition's end.
func VoidOf(id string) string { return "void/" + id }

// LastWordOf reads such a key; nil if it says nothing of that kind.
func LastWordOf(kv *mvccpb.KeyValue) *LastWord {
	w := new(LastWord)
	if json.Unmarshal(kv.Value, w) != nil || w.Why != waitqueue.CauseUnhealthy {
		return nil
	}
	return w
}

// An Heir is a waiter to whom a name is transferred.
type Heir struct {
	Ticket ticketValue `json:"ticket"`
}

// Owner is the heir's label.
func (h *Heir) Owner() string { return h.Ticket.Record.Owner }

// A ticketValue is what a ticket holds.
type ticketValue struct {
	Record  waitqueue.Record `json:"rec"`
	Granted bool             `json:"granted"`
	Index   int              `json:"index"`
}

// RecordOf reads the record of an ownership. A value that nobody of ours wrote
// reads as an owner of whom nothing is known.
func RecordOf(kv *mvccpb.KeyValue) waitqueue.Record {
	var r waitqueue.Record
	if kv != nil {
		_ = json.Unmarshal(kv.Value, &r)
	}
	return r
}

// NoticeOf reads a notice.
func NoticeOf(kv *mvccpb.KeyValue) NoticeValue {
	var n NoticeValue
	if kv != nil {
		_ = json.Unmarshal(kv.Value, &n)
	}
	return n
}

func ticketOf(kv *mvccpb.KeyValue) ticketValue {
	var t ticketValue
	if kv != nil {
		_ = json.Unmarshal(kv.Value, &t)
	}
	return t
}

// givenOf reads a value that an owner gave.
func givenOf(kv *mvccpb.KeyValue) string {
	var v struct {
		Value string `json:"value"`
	}
	_ = json.Unmarshal(kv.Value, &v) // a foreign value reads as none
	return v.Value
}

// tokenShift leaves room in a token for the index of a grant in its transaction.
const tokenShift = 16

// TokenOf returns the token of an ownership; ticket is its granted ticket, or nil.
func TokenOf(owner, ticket *mvccpb.KeyValue) int64 {
	index := 0
	if ticket != nil && ticket.ModRevision == owner.ModRevision {
		index = ticketOf(ticket).Index
	}
	return owner.ModRevision<<tokenShift | int64(index)
}

// ModeName is a mode in the words of the API.
func ModeName(m waitqueue.Mode) string {
	switch m {
	case waitqueue.Shared:
		return "read"
	case waitqueue.Set:
		return "multi"
	case waitqueue.Permits:
		return "permits"
	default:
		return "write"
	}
}

// A Holder owns a name.
type Holder struct {
	waitqueue.Record

	Token  int64
	Lease  int64
	Notice *NoticeValue // a forced release under way, or nil
}

// GraceLeft is what a forced release leaves the holder.
func (h *Holder) GraceLeft() time.Duration {
	return min(time.Duration(h.Grace)*time.Millisecond, waitqueue.MaxGrace)
}

// A Waiter stands in line.
type Waiter struct {
	waitqueue.Record

	Lease    int64
	Priority int

	urgency urgency
	create  int64
}
