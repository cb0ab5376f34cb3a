package history

import (
	"slices"
	"time"
)

// A cut is what is deleted of one name: every chunk before a key, or all.
type cut struct {
	segment string
	before  string // empty: all
}

// prune takes off the shelves what is too old, and the oldest of what is too
// much. A name that is idle for so long is forgotten as a whole.
func (l *ledger) prune(now time.Time) []cut {
	l.mu.Lock()
	defer l.mu.Unlock()
	oldest := now.Add(-l.age).Unix()
	if l.total > maxTotal {
		oldest = max(oldest, l.ageOfExcess())
	}
	var cuts []cut
	for segment, s := range l.shelves {
		n := len(s.chunks)
		for len(s.chunks) > 0 && s.chunks[0].unix < oldest {
			l.take1(s)
		}
		switch {
		case len(s.chunks) == 0:
			delete(l.shelves, segment)
			cuts = append(cuts, cut{segment: segment})
		case len(s.chunks) < n:
			cuts = append(cuts, cut{segment, s.chunks[0].String()})
		}
	}
	return cuts
}

// ageOfExcess returns the time before which chunks have to go so that a tenth
// of what is allowed becomes free.
func (l *ledger) ageOfExcess() int64 {
	var all []chunkKey
	for _, s := range l.shelves {
		all = append(all, s.chunks...)
	}
	slices.SortFunc(all, func(a, b chunkKey) int { return int(a.unix - b.unix) })
	excess := l.total - maxTotal + maxTotal/10
	for _, k := range all {
		if excess -= k.n; excess <= 0 {
			return k.unix + 1
		}
	}
	return 0
}
