package rendezvous

import (
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// A Kind is one of the ways to meet that have generations. Its text is a part of
// their keys.
type Kind string

// The kinds.
const (
	Double Kind = "double"
	Cyclic Kind = "cyclic"
	Latch  Kind = "latch"
)

// The parts of keys below a name, and below a kind.
const (
	holdPart  = "hold/"
	guardPart = "guard/"
	voidPart  = "void/"
	atPart    = "at"
	leftPart  = "left"
	inPart    = "in/"
	partyPart = "party/"
	opPart    = "op/"
	donePart  = "done/"
)

// keys builds the keys of one kind below one name.
type keys struct{ prefix string }

func (k keys) at() string             { return k.prefix + atPart }
func (k keys) left() string           { return k.prefix + leftPart }
func (k keys) op(lease string) string { return k.prefix + opPart + lease }
func (k keys) void(id string) string  { return k.prefix + voidPart + id }

// tickets begins the tickets of a generation, parties those that must not be lost.
func (k keys) tickets(g int64) string { return k.prefix + inPart + strconv.FormatInt(g, 10) + "/" }
func (k keys) parties(g int64) string { return k.prefix + partyPart + strconv.FormatInt(g, 10) + "/" }

// counted begins the operations that a latch counted in a generation.
func (k keys) counted(g int64) string { return k.prefix + donePart + strconv.FormatInt(g, 10) + "/" }

// generationOf returns the generation in the key of a ticket, or 0.
func (k keys) generationOf(ticket string) int64 {
	rest, _ := strings.CutPrefix(ticket, k.prefix+inPart)
	text, _, _ := strings.Cut(rest, "/")
	g, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return g
}

// idOf returns the last part of a key.
func idOf(key []byte) string {
	text := string(key)
	return text[strings.LastIndexByte(text, '/')+1:]
}

// A span is a range of keys, its end excluded.
type span struct{ from, end string }

func below(prefix string) span { return span{prefix, keyspace.End(prefix)} }

// absentIn holds when no key stands in the range.
func absentIn(s span) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(s.from).WithRange(s.end), "=", 0)
}

// noneSince holds when every key in the range was created at rev or before.
func noneSince(s span, rev int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(s.from).WithRange(s.end), "<", rev+1)
}

// unmodified holds while a key has the revision; 0 stands for its absence.
func unmodified(key string, rev int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", rev)
}

func absent(key string) clientv3.Cmp { return unmodified(key, 0) }

func get(s span, opts ...clientv3.OpOption) clientv3.Op {
	return clientv3.OpGet(s.from, append(opts, clientv3.WithRange(s.end))...)
}

func deleteAll(s span) clientv3.Op { return clientv3.OpDelete(s.from, clientv3.WithRange(s.end)) }

// leasePart begins every id of the session's lease.
func leasePart(e *engine.Engine) string { return engine.LeasePrefix(e.Lease()) }
