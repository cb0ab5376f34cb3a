package keyspace

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of a name, in bytes of UTF-8 where they are lengths.
const (
	MaxSegments = 8    // segments in one name
	MaxSegment  = 255  // bytes in one segment, and in a namespace
	MaxName     = 1024 // bytes in a whole name, delimiters included
	MaxRecipe   = 64   // bytes in a recipe's name
)

// Error says that a value from outside cannot be used. Field is the caller's
// name for the value and Reason names the rule or limit that it breaks; the
// value itself is not in the text, since it may hold control characters.
type Error struct {
	Field  string
	Reason string
}

// Error returns "<field>: <reason>".
func (e *Error) Error() string { return e.Field + ": " + e.Reason }

// CheckName reports whether name can name a resource: 1 to 8 segments joined by
// "/", each 1 to 255 bytes of valid UTF-8 without control characters, none of
// them empty, "." or "..", and at most 1,024 bytes in all. The error is an
// *Error; nil means that Prefix and Parse are exact inverses for this name.
func CheckName(field, name string) error {
	if len(name) > MaxName {
		return invalid(field, "has %d bytes, the limit is %d", len(name), MaxName)
	}
	if name == "" {
		return invalid(field, "is empty")
	}
	if n := strings.Count(name, "/") + 1; n > MaxSegments {
		return invalid(field, "has %d segments, the limit is %d", n, MaxSegments)
	}
	for segment := range strings.SplitSeq(name, "/") {
		if err := checkSegment(field, segment); err != nil {
			return err
		}
	}
	return nil
}

// CheckNamespace reports whether ns can be a namespace: one segment under the
// rules of CheckName. The error is an *Error.
func CheckNamespace(field, ns string) error {
	if ns == "" {
		return invalid(field, "is empty")
	}
	if strings.Contains(ns, "/") {
		return invalid(field, `contains "/", a namespace is one segment`)
	}
	return checkSegment(field, ns)
}

// CheckRecipe reports whether recipe can be the name of a recipe: 1 to 64 bytes
// of lower-case ASCII letters, digits and "-", beginning with a letter. The
// error is an *Error.
func CheckRecipe(field, recipe string) error {
	if recipe == "" {
		return invalid(field, "is empty")
	}
	if len(recipe) > MaxRecipe {
		return invalid(field, "has %d bytes, the limit is %d", len(recipe), MaxRecipe)
	}
	for i := range len(recipe) {
		c := recipe[i]
		letter := 'a' <= c && c <= 'z'
		if !letter && (i == 0 || !isDigit(c) && c != '-') {
			return invalid(field, `must be lower-case letters, digits and "-", beginning with a letter`)
		}
	}
	return nil
}

// CheckText reports whether s can be shown and stored as free text, such as an
// owner or a purpose: valid UTF-8 without control characters, at most limit
// bytes. The empty text is allowed. The error is an *Error.
func CheckText(field, s string, limit int) error {
	if len(s) > limit {
		return invalid(field, "has %d bytes, the limit is %d", len(s), limit)
	}
	return checkRunes(field, s)
}

func checkSegment(field, segment string) error {
	switch {
	case segment == "":
		return invalid(field, "has an empty segment")
	case segment == "." || segment == "..":
		return invalid(field, "has the segment %q", segment)
	case len(segment) > MaxSegment:
		return invalid(field, "has a segment of %d bytes, the limit is %d", len(segment), MaxSegment)
	}
	return checkRunes(field, segment)
}

func checkRunes(field, s string) error {
	if !utf8.ValidString(s) {
		return invalid(field, "is not valid UTF-8")
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return invalid(field, "has a control character at byte %d", i)
	}
	return nil
}

func invalid(field, format string, args ...any) error {
	return &Error{Field: field, Reason: fmt.Sprintf(format, args...)}
}
