package waitqueue

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A hint is a waiting ticket that the owner knows of, with all that a release
// needs to hand over to it without a read. Hints travel from owner to owner
// inside granted tickets; they are decoded when they are used, since most are
// only handed on.
type hint struct {
	Key    string
	Create int64
	Lease  int64
	ticketValue

	val json.RawMessage // the ticket's value as it stands in etcd
	raw json.RawMessage // the hint as it came, if it came with a ticket
}

// hintForm is how a hint is written.
type hintForm struct {
	Key    string          `json:"key"`
	Create int64           `json:"create"`
	Lease  int64           `json:"lease"`
	Ticket json.RawMessage `json:"ticket"`
}

// hintOf reads a ticket that waits. It reports false for a granted ticket.
func hintOf(kv *mvccpb.KeyValue) (hint, bool) {
	h := hint{Key: string(kv.Key), Create: kv.CreateRevision, Lease: kv.Lease, val: kv.Value}
	h.read()
	return h, kv.Version == waiting
}

// openHint reads a hint that came with a ticket.
func openHint(raw json.RawMessage) hint {
	f := readHint(raw)
	h := hint{Key: f.Key, Create: f.Create, Lease: f.Lease, val: f.Ticket, raw: raw}
	h.read()
	return h
}

// read decodes the ticket's value. What cannot be read has no mode: nobody can
// hand over to it, but it has its place.
func (h *hint) read() {
	if json.Unmarshal(h.val, &h.ticketValue) != nil || !bytes.HasPrefix(h.Record, []byte("{")) || h.Permits < 0 {
		h.ticketValue, h.val = ticketValue{V: recordVersion}, json.RawMessage("null")
	}
}

// encode writes the hint.
func (h *hint) encode() json.RawMessage {
	if h.raw != nil {
		return h.raw
	}
	b := make([]byte, 0, len(h.val)+len(h.Key)+80)
	b = append(append(b, `{"key":`...), mustJSON(h.Key)...)
	b = strconv.AppendInt(append(b, `,"create":`...), h.Create, 10)
	b = strconv.AppendInt(append(b, `,"lease":`...), h.Lease, 10)
	b = append(append(b, `,"ticket":`...), h.val...)
	return append(b, '}')
}

func encodeHints(hints []hint) []json.RawMessage {
	raw := make([]json.RawMessage, len(hints))
	for i := range hints {
		raw[i] = hints[i].encode()
	}
	return raw
}

func openHints(raw []json.RawMessage) []hint {
	hints := make([]hint, len(raw))
	for i := range raw {
		hints[i] = openHint(raw[i])
	}
	return hints
}

// granted returns the value of the ticket once it is granted: as it stands, with
// what an owner has to know.
func (h *hint) granted(index int, rest []json.RawMessage) string {
	size := len(h.val) + 64
	for _, r := range rest {
		size += len(r) + 1
	}
	b := append(make([]byte, 0, size), bytes.TrimSuffix(bytes.TrimSpace(h.val), []byte("}"))...)
	b = append(b, `,"granted":true`...)
	if index > 0 {
		b = strconv.AppendInt(append(b, `,"index":`...), int64(index), 10)
	}
	if len(rest) > 0 {
		b = append(b, `,"hints":[`...)
		b = append(append(b, bytes.Join(asBytes(rest), []byte(","))...), ']')
	}
	return string(append(b, '}'))
}

func asBytes(raw []json.RawMessage) [][]byte {
	b := make([][]byte, len(raw))
	for i, r := range raw {
		b[i] = r
	}
	return b
}

// grant returns the record with which the ticket's owner takes the name:
// unknown fields of the ticket's record are kept.
func (h *hint) grant(prev *Prev) string { return handedOver(h.Record, prev, time.Now()) }

func (h *hint) leaseOpt() clientv3.OpOption { return clientv3.WithLease(clientv3.LeaseID(h.Lease)) }

func (h *hint) shadowLease() clientv3.LeaseID { return clientv3.LeaseID(h.Shadow) }
