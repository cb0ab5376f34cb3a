package state

import (
	"strconv"
	"strings"

	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/waitqueue"
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
	Given
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

// IsOwn tells whether a key is one of the recipe's own.
func (s Space) IsOwn(key []byte) bool {
	n := len(s.prefix)
	return len(key) > n && string(key[:n]) == s.prefix && key[n] == ownMark[0]
}

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

// The first parts of keys below a name that begin or end ranges.
const (
	givenPart  = "given"
	linePart   = "line"
	noticePart = "notice"
)

// Owners returns the ranges of one name that hold its owners with what they gave
// and are told, Line the one of the tickets.
func (s Space) Owners(name string) []Range {
	p := s.Name(name)
	return []Range{{p + givenPart, p + linePart}, within(p + noticePart)}
}

// Line is a part of a name; see Owners.
func (s Space) Line(name string) Range { return within(s.Name(name) + linePart) }

func within(part string) Range { return Range{part + "/", part + afterSlash} }

const afterSlash = "0" // the byte that follows the delimiter

// Parse takes apart what follows the delimiter of a name. The id is the
// acquisition's where the key has it.
func Parse(rest string) (kind Kind, id string) {
	part, id, deeper := strings.Cut(rest, "/")
	if !deeper {
		return single(part), ""
	}
	switch part {
	case "read":
		return Read, id
	case "hold":
		return Hold, id
	case noticePart:
		return Notice, id
	case givenPart:
		return Given, id
	case linePart:
		text, id, _ := strings.Cut(id, "/")
		if _, ok := parseUrgency(text); ok && id != "" {
			return Ticket, id
		}
	}
	return Other, ""
}

// single is the kind of a key that a name has once.
func single(part string) Kind {
	switch part {
	case "grant":
		return Grant
	case "limit":
		return Limit
	case "shadow":
		return Shadow
	default:
		return Other
	}
}

// An urgency is a ticket's place in line before its age counts: two hexadecimal
// digits of the priority and, in elections, one of the candidate's rank. A smaller
// one goes first.
type urgency uint16

const rankBits = 4

func parseUrgency(text string) (u urgency, ok bool) {
	if len(text) != 2 && len(text) != 3 {
		return 0, false
	}
	n, err := strconv.ParseUint(text, 16, 12)
	if len(text) == 2 {
		n <<= rankBits
	}
	return urgency(n), err == nil
}

// priority is the one that the waiter asked for.
func (u urgency) priority() int { return waitqueue.MaxPriority - int(u>>rankBits) }
