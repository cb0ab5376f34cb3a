package waitqueue

import (
	"encoding/json"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Mode is how a name is owned.
type Mode string

// The modes.
const (
	Exclusive Mode = "w" // nobody beside it
	Shared    Mode = "r" // other sharers beside it
	Set       Mode = "m" // exclusive, one name of several
	Permits   Mode = "s" // some of a limited number of permits
)

func (m Mode) exclusive() bool { return m == Exclusive || m == Set }

// A Record says who owns a name, or waits for it. It is the value of grants and
// tickets. Libraries of every version read it: v is its version, and fields
// that this version does not know are kept.
type Record struct {
	V       int       `json:"v"`
	ID      string    `json:"acq"`
	Mode    Mode      `json:"mode"`
	Owner   string    `json:"owner"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Purpose string    `json:"purpose,omitempty"`
	Since   time.Time `json:"since"` // asked for, in a ticket; owned, in a grant
	Permits int       `json:"permits,omitempty"`
	Set     string    `json:"set,omitempty"`     // key of the set's record
	Grace   int64     `json:"graceMs,omitempty"` // time that a forced release leaves
	Prev    *Prev     `json:"prev,omitempty"`    // the owner before, in a grant that was handed over
	Broken  int64     `json:"broken,omitempty"`  // in a set's record: a name was forced out; the revision of its grants
}

// Prev says who owned the name before, and why that ended.
type Prev struct {
	ID    string `json:"acq"`
	Token int64  `json:"token"`
	Cause string `json:"cause"`
	By    string `json:"by,omitempty"`
}

// The causes in Prev.
const (
	causeReleased = "released"
	causeForced   = "forced"
)

// ticketValue is the value of a ticket.
type ticketValue struct {
	V       int             `json:"v"`
	Record  json.RawMessage `json:"rec"`
	Mode    Mode            `json:"mode"`
	Permits int             `json:"permits,omitempty"`
	Delay   int64           `json:"delay,omitempty"`       // lock delay, ns
	Shadow  int64           `json:"shadowLease,omitempty"` // lease of the shadow
	Granted bool            `json:"granted,omitempty"`
	Index   int             `json:"index,omitempty"` // of the grant in its transaction
	Hints   []hint          `json:"hints,omitempty"`
}

// A hint is a waiting ticket that the owner knows of, with all that a release
// needs to hand over to it without a read.
type hint struct {
	Key    string `json:"key"`
	Create int64  `json:"create"`
	Lease  int64  `json:"lease"`
	ticketValue
}

const recordVersion = 1

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("waitqueue: encode %T: %v", v, err)) // only plain fields are in there
	}
	return string(b)
}

// hintOf reads a ticket that waits. It reports false for a granted ticket, and
// for a key that is no ticket.
func hintOf(kv *mvccpb.KeyValue) (hint, bool) {
	h := hint{Key: string(kv.Key), Create: kv.CreateRevision, Lease: kv.Lease}
	if kv.Version != waiting || json.Unmarshal(kv.Value, &h.ticketValue) != nil {
		return h, false
	}
	return h, len(h.Record) > 0
}

// granted returns the value of the ticket once it is granted.
func (h hint) granted(index int, rest []hint) string {
	v := h.ticketValue
	v.Granted, v.Index, v.Hints = true, index, rest
	return mustJSON(v)
}

// grant returns the record with which the ticket's owner takes the name:
// unknown fields of the ticket's record are kept.
func (h hint) grant(prev *Prev) string { return handedOver(h.Record, prev, time.Now()) }

func handedOver(rec json.RawMessage, prev *Prev, now time.Time) string {
	fields := make(map[string]json.RawMessage)
	if json.Unmarshal(rec, &fields) != nil {
		return string(rec)
	}
	fields["since"] = json.RawMessage(mustJSON(now.UTC()))
	if prev != nil {
		fields["prev"] = json.RawMessage(mustJSON(prev))
	}
	return mustJSON(fields)
}

func recordOf(kv *mvccpb.KeyValue) Record {
	var r Record
	if kv != nil {
		_ = json.Unmarshal(kv.Value, &r) // a foreign value reads as an unknown owner
	}
	return r
}

func (h hint) leaseOpt() clientv3.OpOption   { return clientv3.WithLease(clientv3.LeaseID(h.Lease)) }
func (h hint) shadowLease() clientv3.LeaseID { return clientv3.LeaseID(h.Shadow) }

// modeOf reads the mode of a ticket; an unknown one counts as exclusive.
func modeOf(kv *mvccpb.KeyValue) Mode {
	var t ticketValue
	if json.Unmarshal(kv.Value, &t) != nil || t.Mode == "" {
		return Exclusive
	}
	return t.Mode
}

// shadowValue says whose ownership a shadow follows.
func (h hint) shadowValue() string {
	var r Record
	_ = json.Unmarshal(h.Record, &r)
	return shadowValue(r.ID, time.Duration(h.Delay))
}

func shadowValue(id string, delay time.Duration) string {
	return mustJSON(struct {
		V     int    `json:"v"`
		ID    string `json:"acq"`
		Delay string `json:"delay"`
	}{recordVersion, id, delay.String()})
}
