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

// distance counts the single-character changes that make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
