package state

import (
	"strconv"
	"strings"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// A Kind is what a key below a name is for.
type Kind uint8

// The kinds. Other is what no version of the library that we know writes.
const (
	Other Kind = iota
	Grant
	Read
	Hold
	Ticket
	Limit
	Shadow
	Notice
)

// Owner tells whether a key of this kind is an ownership.
func (k Kind) Owner() bool { return k == Grant || k == Read || k == Hold }

// A Space is a recipe's names of one namespace.
type Space struct {
	namespace, instance, prefix string
}

// NewSpace returns the keys of a recipe's instance in a namespace. Both come
// from their checks in keyspace.
func NewSpace(namespace, instance string) Space {
	return Space{namespace, instance, keyspace.RecipePrefix(namespace, instance)}
}

// Namespace returns the namespace.
func (s Space) Namespace() string { return s.namespace }

// Prefix begins every key of the space.
func (s Space) Prefix() string { return s.prefix }

// Own returns the beginning of the recipe's own keys of one kind. They stand in
// segments that begin with a bare underscore, which no escaped name does.
func (s Space) Own(kind string) string { return s.prefix + ownMark + kind }

const (
	ownMark  = "_"
	afterOwn = "`" // the byte that follows the underscore
)

// A Range is a range of keys, its end excluded.
type Range struct{ From, End string }

// Names returns the ranges that hold the keys of names between two keys, and
// nothing of the recipe's own.
func (s Space) Names(from, end string) []Range {
	var ranges []Range
	for _, r := range []Range{{from, min(end, s.prefix+ownMark)}, {max(from, s.prefix+afterOwn), end}} {
		if r.From < r.End {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// Name begins every key of one name.
func (s Space) Name(name string) string {
	return keyspace.Prefix(s.namespace, s.instance, name)
}

// Beginning begins every key of the names that begin with a text.
func (s Space) Beginning(prefix string) string {
	if prefix == "" {
		return s.prefix
	}
	return s.prefix + keyspace.Escape(prefix)
}

// Split cuts a key into the name's spelling and what follows its delimiter; ok
// is false for a key that is no name's.
func (s Space) Split(key string) (segment, rest string, ok bool) {
	path, ok := strings.CutPrefix(key, s.prefix)
	if !ok || strings.HasPrefix(path, ownMark) {
		return "", "", false
	}
	return strings.Cut(path, "/")
}

// Parse takes apart what follows the delimiter of a name. The id is the
// acquisition's where the key has it, and bucket the urgency of a ticket.
func Parse(rest string) (kind Kind, id string, bucket uint8) {
	part, id, deeper := strings.Cut(rest, "/")
	switch {
	case part == "grant" && !deeper:
		return Grant, "", 0
	case part == "limit" && !deeper:
		return Limit, "", 0
	case part == "shadow" && !deeper:
		return Shadow, "", 0
	case part == "read" && deeper:
		return Read, id, 0
	case part == "hold" && deeper:
		return Hold, id, 0
	case part == "notice" && deeper:
		return Notice, id, 0
	case part == "line" && deeper:
		hex, id, _ := strings.Cut(id, "/")
		if b, err := strconv.ParseUint(hex, 16, 8); err == nil && id != "" {
			return Ticket, id, uint8(b)
		}
	}
	return Other, "", 0
}
