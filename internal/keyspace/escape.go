package keyspace

import (
	"errors"
	"fmt"
	"strings"
)

const upperHex = "0123456789ABCDEF"

// ErrNotCanonical says that a text is not what Escape returns for any input. A
// reader must refuse it: with two spellings, one name would be two resources.
var ErrNotCanonical = errors.New("not a canonical escape")

// Escape returns the one spelling of s inside a key. ASCII letters, digits and
// "-", ".", "_", "~" stay; every other byte, "/" and "%" among them, becomes
// "%" and two upper-case hex digits, and so does an underscore at the beginning.
// The result is printable ASCII without "/". Escape accepts every string;
// different strings have different results.
func Escape(s string) string {
	n := 0
	for i := range len(s) {
		if !plain(s[i], i) {
			n++
		}
	}
	if n == 0 {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 2*n)
	for i := range len(s) {
		if c := s[i]; plain(c, i) {
			b.WriteByte(c)
		} else {
			b.WriteByte('%')
			b.WriteByte(upperHex[c>>4])
			b.WriteByte(upperHex[c&0xf])
		}
	}
	return b.String()
}

// Unescape is the inverse of Escape. It accepts exactly what Escape returns:
// anything else, such as lower-case hex digits or an escape that is not needed,
// is an error that wraps ErrNotCanonical.
func Unescape(s string) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '%' {
			if !plain(s[i], len(b)) {
				return "", fmt.Errorf("byte %d: %w", i, ErrNotCanonical)
			}
			b = append(b, s[i])
			i++
			continue
		}
		c, ok := unhex(s[i+1:])
		if !ok || plain(c, len(b)) {
			return "", fmt.Errorf("byte %d: %w", i, ErrNotCanonical)
		}
		b = append(b, c)
		i += 3
	}
	return string(b), nil
}

// plain reports whether byte c at position i of the unescaped text stays as it is.
func plain(c byte, i int) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', isDigit(c):
		return true
	case c == '-' || c == '.' || c == '~':
		return true
	case c == '_':
		// A segment that begins with a bare underscore is the host's.
		return i > 0
	}
	return false
}

func unhex(s string) (byte, bool) {
	if len(s) < 2 {
		return 0, false
	}
	hi := strings.IndexByte(upperHex, s[0])
	lo := strings.IndexByte(upperHex, s[1])
	if hi < 0 || lo < 0 {
		return 0, false
	}
	return byte(hi<<4 | lo), true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
