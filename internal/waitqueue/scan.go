package waitqueue

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// A granted ticket is read between two owners, when everybody in line waits for
// it, and most of it is hints that are only handed on: encoding/json took longer
// for it than all else that a handover does here. What is below takes apart what
// this package writes, and says so if it meets anything else. It tells values
// apart by their brackets and quotes; whoever uses one has it decoded.

// grantedValue returns the index and the hints of a granted ticket.
func grantedValue(b []byte) (index int64, hints []json.RawMessage) {
	ok := eachField(b, func(name, value []byte) (ok bool) {
		switch string(name) {
		case "index":
			n, err := strconv.ParseInt(string(value), 10, 32)
			index, ok = n, err == nil
			return ok
		case "hints":
			hints, ok = elements(value)
			return ok
		}
		return true
	})
	if !ok {
		var v ticketValue
		_ = json.Unmarshal(b, &v) // unreadable hints are only a read more
		return int64(v.Index), v.Hints
	}
	return index, hints
}

// readHint reads a hint as it came with a ticket.
func readHint(raw []byte) (f hintForm) {
	ok := eachField(raw, func(name, value []byte) (ok bool) {
		var err error
		switch string(name) {
		case "key":
			f.Key, ok = plainString(value)
			return ok
		case "create":
			f.Create, err = strconv.ParseInt(string(value), 10, 64)
		case "lease":
			f.Lease, err = strconv.ParseInt(string(value), 10, 64)
		case "ticket":
			f.Ticket = value
		}
		return err == nil
	})
	if !ok {
		f = hintForm{}
		_ = json.Unmarshal(raw, &f) // one that cannot be read names no ticket
	}
	return f
}

// eachField calls f for every field of an object without spaces, until f returns
// false. It reports whether it got to the end.
func eachField(b []byte, f func(name, value []byte) bool) bool {
	if len(b) < 2 || b[0] != '{' || b[len(b)-1] != '}' {
		return false
	}
	for b = b[1:]; len(b) > 0 && b[0] == '"'; {
		n := valueEnd(b)
		if n < 2 || n >= len(b) || b[n] != ':' {
			return false
		}
		name := b[1 : n-1]
		b = b[n+1:]
		n = valueEnd(b)
		if n <= 0 || n >= len(b) || !f(name, b[:n]) {
			return false
		}
		if b[n] != ',' {
			return b[n] == '}' && n+1 == len(b)
		}
		b = b[n+1:]
	}
	return false
}

// elements returns those of an array without spaces.
func elements(b []byte) (all []json.RawMessage, ok bool) {
	if len(b) < 2 || b[0] != '[' || b[len(b)-1] != ']' {
		return nil, false
	}
	for b = b[1:]; len(b) > 1; {
		n := valueEnd(b)
		if n <= 0 || n >= len(b) {
			return nil, false
		}
		all = append(all, json.RawMessage(b[:n:n]))
		if b[n] == ']' {
			return all, n+1 == len(b)
		}
		if b[n] != ',' {
			return nil, false
		}
		b = b[n+1:]
	}
	return nil, len(b) == 1 && b[0] == ']'
}

// valueEnd returns where the value ends that b begins with, or 0.
func valueEnd(b []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			if quoted = !quoted; !quoted && depth == 0 {
				return i + 1
			}
		case quoted:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth == 0 {
				return i // of a number or a word, the last of its object
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case c == ',' && depth == 0:
			return i
		case c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == ':' && depth == 0:
			return 0
		}
	}
	return 0
}

// plainString returns a string without escapes.
func plainString(b []byte) (string, bool) {
	if len(b) < 2 || b[0] != '"' || bytes.IndexByte(b, '\\') >= 0 {
		return "", false
	}
	return string(b[1 : len(b)-1]), true
}
