package waitqueue

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// The kinds of keys below a name. Their order matters: everything that a free
// name must not have lies in the two ranges [grant, line) and [read/, void), so
// that a transaction over 30 names needs few comparisons.
const (
	grantPart  = "grant"   // the exclusive grant
	holdPart   = "hold/"   // one grant of permits each
	limitPart  = "limit"   // how many permits there are
	linePart   = "line/"   // tickets, by bucket
	noticePart = "notice/" // forced releases under way
	readPart   = "read/"   // one shared grant each
	setPart    = "set/"    // the record of a set of names
	shadowPart = "shadow"  // outlives a dead owner by the lock delay
	voidPart   = "void/"   // acquisitions that ended with an unknown outcome
)

// keys builds the keys of one name.
type keys struct {
	prefix   string // "/conclave/<namespace>/<recipe>/<name>/"
	end      string // of the range of all of them
	grantKey string
}

func keysOf(prefix string) keys {
	return keys{prefix: prefix, end: keyspace.End(prefix), grantKey: prefix + grantPart}
}

func (k keys) grant() string           { return k.grantKey }
func (k keys) limit() string           { return k.prefix + limitPart }
func (k keys) shadow() string          { return k.prefix + shadowPart }
func (k keys) read(id string) string   { return k.prefix + readPart + id }
func (k keys) hold(id string) string   { return k.prefix + holdPart + id }
func (k keys) void(id string) string   { return k.prefix + voidPart + id }
func (k keys) set(id string) string    { return k.prefix + setPart + id }
func (k keys) notice(id string) string { return k.prefix + noticePart + id }

func (k keys) ticket(b bucket, id string) string {
	return k.prefix + linePart + b.String() + "/" + id
}

func (k keys) line() span    { return prefixSpan(k.prefix + linePart) }
func (k keys) reads() span   { return prefixSpan(k.prefix + readPart) }
func (k keys) holds() span   { return prefixSpan(k.prefix + holdPart) }
func (k keys) owners() span  { return span{k.grant(), k.prefix + "line"} }           // grant, holds, limit
func (k keys) sharers() span { return span{k.prefix + readPart, k.prefix + "void"} } // reads, sets, shadow
func (k keys) all() span     { return span{k.prefix, k.end} }
func (k keys) bucket(b bucket) span {
	return prefixSpan(k.prefix + linePart + b.String() + "/")
}

// above is the part of the line that is more urgent than bucket b.
func (k keys) above(b bucket) span {
	return span{k.prefix + linePart, k.prefix + linePart + b.String() + "/"}
}

// own is the key that an owner in this mode holds.
func (k keys) own(m Mode, id string) string {
	switch m {
	case Shared:
		return k.read(id)
	case Permits:
		return k.hold(id)
	default:
		return k.grant()
	}
}

// A span is a range of keys, its end excluded.
type span struct{ from, end string }

func prefixSpan(prefix string) span { return span{prefix, keyspace.End(prefix)} }

// A bucket orders tickets by urgency: the more urgent, the smaller. It is made of a
// priority and, in its last four bits, a rank among those of that priority.
type bucket uint16

// The limits of a priority, of which a larger one goes first, and of a rank, of
// which a smaller one does.
const (
	MinPriority = -128
	MaxPriority = 127
	MaxRank     = 15
)

const rankBits = 4

func bucketOf(priority int) bucket { return rankedBucket(priority, 0) }

func rankedBucket(priority, rank int) bucket {
	return bucket(MaxPriority-priority)<<rankBits | bucket(rank)
}

// String is the bucket's part of a key. As texts they have the order of the
// buckets, since a slash follows, which sorts before every digit.
func (b bucket) String() string {
	level := hex.EncodeToString([]byte{byte(b >> rankBits)})
	if rank := b & MaxRank; rank > 0 {
		return level + strconv.FormatUint(uint64(rank), 16)
	}
	return level
}

func parseBucket(text string) (bucket, bool) {
	if len(text) != 2 && len(text) != 3 {
		return 0, false
	}
	level, err := strconv.ParseUint(text[:2], 16, 8)
	rank := uint64(0)
	if err == nil && len(text) == 3 {
		rank, err = strconv.ParseUint(text[2:], 16, rankBits)
	}
	b := bucket(level<<rankBits | rank)
	return b, err == nil && b.String() == text // one spelling each
}

// ticketID splits a ticket's key, without the line's prefix, into bucket and id.
func (k keys) ticketID(key string) (bucket, string, error) {
	rest, ok := strings.CutPrefix(key, k.prefix+linePart)
	b, id, ok2 := strings.Cut(rest, "/")
	n, ok3 := parseBucket(b)
	if !ok || !ok2 || !ok3 {
		return 0, "", fmt.Errorf("%q is not a ticket", key)
	}
	return n, id, nil
}

// bucketPart is a ticket's key without the id: it orders tickets by urgency.
func bucketPart(ticket string) string {
	return ticket[:strings.LastIndexByte(ticket, '/')+1]
}
