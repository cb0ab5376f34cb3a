package workqueue

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Record is the value of an item's key: a line of JSON, then the payload as it
// is. Libraries of every version read it: v is its version, and fields that this
// version does not know are kept.
type Record struct {
	At       int64  // when it was enqueued, by its producer's clock, in ms since 1970
	Codec    string // of the payload
	Priority int
	Attempts int    // deliveries so far
	Order    int64  // the revision that created the item; 0 while its first key has it
	Index    int    // of a delivery in its transaction
	Group    string // "" for none
	Reason   string // why the last attempt failed, or why it is a dead letter
	Of       int64  // of a delivery whose key is not that of its claim: the revision of that
	Payload  []byte

	extra map[string]json.RawMessage
}

const recordVersion = 1

// ErrRecord says that a key of the queue holds what no version of it wrote.
var ErrRecord = errors.New("not an item's record")

// fields are the names in the line, in the order in which they are written.
var fields = [...]string{"v", "at", "codec", "p", "n", "ord", "i", "group", "why", "of"}

// encode writes the record.
func (r *Record) encode() string { return string(r.bytes()) }

func (r *Record) bytes() []byte {
	b := make([]byte, 0, 96+len(r.Codec)+len(r.Group)+len(r.Reason)+len(r.Payload))
	b = strconv.AppendInt(append(b, `{"v":`...), recordVersion, 10)
	b = strconv.AppendInt(append(b, `,"at":`...), r.At, 10)
	b = appendText(b, "codec", r.Codec)
	b = appendNumber(b, "p", int64(r.Priority))
	b = appendNumber(b, "n", int64(r.Attempts))
	b = appendNumber(b, "ord", r.Order)
	b = appendNumber(b, "i", int64(r.Index))
	b = appendText(b, "group", r.Group)
	b = appendText(b, "why", r.Reason)
	b = appendNumber(b, "of", r.Of)
	if len(r.extra) > 0 {
		for _, name := range slices.Sorted(maps.Keys(r.extra)) {
			b = append(append(appendQuoted(append(b, ','), name), ':'), r.extra[name]...)
		}
	}
	return append(append(b, "}\n"...), r.Payload...)
}

func appendNumber(b []byte, name string, n int64) []byte {
	if n == 0 {
		return b
	}
	return strconv.AppendInt(append(append(append(b, `,"`...), name...), `":`...), n, 10)
}

func appendText(b []byte, name, s string) []byte {
	if s == "" {
		return b
	}
	return appendQuoted(append(append(append(b, `,"`...), name...), `":`...), s)
}

// appendQuoted writes a text as JSON does.
func appendQuoted(b []byte, s string) []byte {
	odd := func(r rune) bool {
		return r < ' ' || r > '~' || r == '"' || r == '\\' || r == '<' || r == '>' || r == '&'
	}
	if strings.IndexFunc(s, odd) < 0 {
		return append(append(append(b, '"'), s...), '"')
	}
	quoted, _ := json.Marshal(s) // a string always marshals
	return append(b, quoted...)
}

// decode reads a record. The payload is a part of value.
func decode(value []byte) (Record, error) {
	line, payload, ok := bytes.Cut(value, []byte("\n"))
	if !ok {
		return Record{}, fmt.Errorf("%w: no line", ErrRecord)
	}
	if r, ok := decodeOwn(line); ok {
		r.Payload = payload
		return r, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(line, &all); err != nil {
		return Record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	r := Record{Payload: payload}
	var v int
	for i, to := range []any{&v, &r.At, &r.Codec, &r.Priority, &r.Attempts, &r.Order, &r.Index, &r.Group, &r.Reason, &r.Of} {
		raw, ok := all[fields[i]]
		delete(all, fields[i])
		if !ok {
			continue
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return Record{}, fmt.Errorf("%w: %s: %w", ErrRecord, fields[i], err)
		}
	}
	if v < recordVersion {
		return Record{}, fmt.Errorf("%w: version %d", ErrRecord, v)
	}
	if len(all) > 0 {
		r.extra = all
	}
	if err := r.check(); err != nil {
		return Record{}, err
	}
	return r, nil
}

// check refuses what would lead to keys that nobody finds.
func (r *Record) check() error {
	if r.Priority < MinPriority || r.Priority > MaxPriority || r.Order < 0 || r.Attempts < 0 || r.Of < 0 {
		return fmt.Errorf("%w: a number is out of its range", ErrRecord)
	}
	return nil
}

// decodeOwn reads a line without unknown fields, in the order in which encode
// writes it, and reports false for any other: reflection showed in profiles.
func decodeOwn(line []byte) (r Record, ok bool) {
	p := parser{rest: line}
	if !p.skip(`{"v":1,"at":`) {
		return r, false
	}
	r.At = p.int()
	r.Codec = p.text("codec")
	r.Priority = int(p.number("p"))
	r.Attempts = int(p.number("n"))
	r.Order = p.number("ord")
	r.Index = int(p.number("i"))
	r.Group = p.text("group")
	r.Reason = p.text("why")
	r.Of = p.number("of")
	return r, !p.bad && string(p.rest) == "}" && r.check() == nil
}

// parser reads the fields of a line that is in order.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) skip(s string) bool {
	rest, ok := bytes.CutPrefix(p.rest, []byte(s))
	p.rest = rest
	return ok
}

func (p *parser) field(name string) bool { return p.skip(`,"` + name + `":`) }

func (p *parser) int() int64 {
	n := 0
	for n < len(p.rest) && (p.rest[n] == '-' || '0' <= p.rest[n] && p.rest[n] <= '9') {
		n++
	}
	i, err := strconv.ParseInt(string(p.rest[:n]), 10, 64)
	p.bad = p.bad || err != nil
	p.rest = p.rest[n:]
	return i
}

func (p *parser) number(name string) int64 {
	if !p.field(name) {
		return 0
	}
	return p.int()
}

func (p *parser) text(name string) string {
	if !p.field(name) || !p.skip(`"`) {
		return ""
	}
	n := bytes.IndexByte(p.rest, '"')
	if n < 0 || bytes.IndexByte(p.rest[:n], '\\') >= 0 { // an escape: the slow way
		p.bad = true
		return ""
	}
	s := string(p.rest[:n])
	p.rest = p.rest[n+1:]
	return s
}
