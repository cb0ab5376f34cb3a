// Package suggest finds what somebody meant who mistyped a word.
package suggest

import "strings"

// Closest returns the word of known that is nearest to typed, or "" if none is
// so near that it may have been meant: more than half of it would have to
// change. Case does not count.
func Closest(typed string, known []string) string {
	best, at := "", len(typed)/2+1
	for _, k := range known {
		if d := distance(strings.ToLower(typed), strings.ToLower(k)); d < at {
			best, at = k, d
		}
	}
	return best
}

// distance counts the changes that make b of a: a character put in, left out or
// replaced, or two neighbours that changed places.
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, above, row = above, row, before
		row[0] = i + 1
		for j := range len(b) {
			replaced := above[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, row[j]+1, above[j+1]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
