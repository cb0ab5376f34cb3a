package waitqueue

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"

	"github.com/conclavehq/conclave/core"
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
	Value   string    `json:"value,omitempty"` // that a leader begins with
	Since   time.Time `json:"since"`           // asked for, in a ticket; owned, in a grant
	Permits int       `json:"permits,omitempty"`
	// Priority and Rank tell, with the id, the key of the ticket that the owner waited with.
	Priority int    `json:"priority,omitempty"`
	Zone     string `json:"zone,omitempty"` // where a candidate runs, for which it has its rank
	Rank     int    `json:"rank,omitempty"`
	Set      string `json:"set,omitempty"`     // key of the set's record
	Grace    int64  `json:"graceMs,omitempty"` // time that a forced release leaves
	Prev     *Prev  `json:"prev,omitempty"`    // the owner before, in a grant that was handed over
	Broken   int64  `json:"broken,omitempty"`  // in a set's record: a name was forced out; the revision of its grants
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
	CauseReleased    = "released"
	CauseForced      = "forced"      // by an operator, or by whoever asked for a transfer
	CauseTransferred = "transferred" // to the heir that it was asked to make room for
	CauseUnhealthy   = "unhealthy"   // it failed its own check
)

// ticketValue is the value of a ticket.
type ticketValue struct {
	V       int               `json:"v"`
	Record  json.RawMessage   `json:"rec"`
	Mode    Mode              `json:"mode"`
	Permits int               `json:"permits,omitempty"`
	Delay   int64             `json:"delay,omitempty"`       // lock delay, ns
	Shadow  int64             `json:"shadowLease,omitempty"` // lease of the shadow
	Granted bool              `json:"granted,omitempty"`
	Index   int               `json:"index,omitempty"` // of the grant in its transaction
	Hints   []json.RawMessage `json:"hints,omitempty"`
}

const recordVersion = 1

// recordFor is what all records of a session have in common.
func recordFor(s *core.Session) Record {
	r := Record{V: recordVersion, Owner: s.Owner()}
	if s.Engine().Borrowed() {
		// This process only lends its hands: who reads of it would end the host, and
		// with it the calls of everybody else.
		return r
	}
	r.PID = os.Getpid()
	var err error
	if r.Host, err = os.Hostname(); err != nil {
		r.Host = "unknown"
	}
	return r
}

// encode writes the value of a ticket that waits, as encoding/json would.
func (t *ticketValue) encode() string {
	b := make([]byte, 0, len(t.Record)+96)
	b = strconv.AppendInt(append(b, `{"v":`...), int64(t.V), 10)
	b = append(append(b, `,"rec":`...), t.Record...)
	b = append(append(b, `,"mode":"`...), t.Mode...)
	b = append(b, '"')
	for _, f := range []struct {
		name  string
		value int64
	}{{`,"permits":`, int64(t.Permits)}, {`,"delay":`, t.Delay}, {`,"shadowLease":`, t.Shadow}} {
		if f.value != 0 {
			b = strconv.AppendInt(append(b, f.name...), f.value, 10)
		}
	}
	return string(append(b, '}'))
}

// encode writes the record as encoding/json would, around the part of it that
// all records of a session have in common: one is written for every
// acquisition, and reflection showed in profiles.
func (r *Record) encode(common string) string {
	var scratch [512]byte // on the stack, as a rule
	b := append(scratch[:0], `{"v":`...)
	b = strconv.AppendInt(b, int64(r.V), 10)
	b = append(b, `,"acq":"`...)
	b = append(b, r.ID...)
	b = append(b, `","mode":"`...)
	b = append(b, r.Mode...)
	b = append(b, `",`...)
	b = append(b, common...)
	if r.Purpose != "" {
		b = append(append(b, `,"purpose":`...), mustJSON(r.Purpose)...)
	}
	if r.Value != "" {
		b = append(append(b, `,"value":`...), mustJSON(r.Value)...)
	}
	if r.Permits != 0 {
		b = strconv.AppendInt(append(b, `,"permits":`...), int64(r.Permits), 10)
	}
	if r.Priority != 0 {
		b = strconv.AppendInt(append(b, `,"priority":`...), int64(r.Priority), 10)
	}
	if r.Zone != "" {
		b = append(append(b, `,"zone":`...), mustJSON(r.Zone)...)
	}
	if r.Rank != 0 {
		b = strconv.AppendInt(append(b, `,"rank":`...), int64(r.Rank), 10)
	}
	if r.Set != "" {
		b = append(append(b, `,"set":`...), mustJSON(r.Set)...)
	}
	if r.Grace != 0 {
		b = strconv.AppendInt(append(b, `,"graceMs":`...), r.Grace, 10)
	}
	b = append(b, sinceField...)
	b = r.Since.AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	if r.Prev != nil {
		b = r.Prev.encode(append(b, `,"prev":`...))
	}
	return string(append(b, '}'))
}

func (p *Prev) encode(b []byte) []byte {
	b = append(append(b, `{"acq":"`...), p.ID...)
	b = strconv.AppendInt(append(b, `","token":`...), p.Token, 10)
	b = append(append(b, `,"cause":"`...), p.Cause...)
	b = append(b, '"')
	if p.By != "" {
		b = append(append(b, `,"by":`...), mustJSON(p.By)...)
	}
	return append(b, '}')
}

// common is what all records of a session have in common.
func (r *Record) common() string {
	return `"owner":` + mustJSON(r.Owner) + `,"host":` + mustJSON(r.Host) + `,"pid":` + strconv.Itoa(r.PID)
}

func mustJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("waitqueue: encode %T: %v", v, err)) // only plain fields are in there
	}
	return string(b)
}

// handedOver is rec with the time and the predecessor of a new ownership.
func handedOver(rec json.RawMessage, prev *Prev, now time.Time) string {
	if known, ok := cutSince(rec); ok {
		b := append(make([]byte, 0, len(rec)+160), known...)
		b = now.UTC().AppendFormat(append(b, sinceField...), time.RFC3339Nano)
		b = append(b, '"')
		if prev != nil {
			b = prev.encode(append(b, `,"prev":`...))
		}
		return string(append(b, '}'))
	}
	fields := make(map[string]json.RawMessage)
	if json.Unmarshal(rec, &fields) != nil || fields == nil {
		return string(rec)
	}
	fields["since"] = json.RawMessage(mustJSON(now.UTC()))
	if prev != nil {
		fields["prev"] = json.RawMessage(mustJSON(prev))
	}
	return mustJSON(fields)
}

const sinceField = `,"since":"`

// cutSince returns rec up to its time, if nothing follows that but the end, as
// encode leaves it. It saves the handover a general decoding.
func cutSince(rec []byte) ([]byte, bool) {
	at := bytes.LastIndex(rec, []byte(sinceField))
	if at < 0 {
		return nil, false
	}
	rest := rec[at+len(sinceField):]
	return rec[:at], bytes.IndexByte(rest, '"') == len(rest)-2 && rest[len(rest)-1] == '}'
}

func recordOf(kv *mvccpb.KeyValue) Record {
	var r Record
	if kv != nil {
		_ = json.Unmarshal(kv.Value, &r) // a foreign value reads as an unknown owner
	}
	return r
}

// modeOf reads the mode of a ticket; an unknown one counts as exclusive.
func modeOf(kv *mvccpb.KeyValue) Mode {
	var t ticketValue
	if json.Unmarshal(kv.Value, &t) != nil || t.Mode == "" {
		return Exclusive
	}
	return t.Mode
}

// shadowValue says whose ownership a shadow follows.
func (h *hint) shadowValue() string {
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
