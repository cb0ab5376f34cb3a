package model

// entry is a state of the frontier with its number in the visited set.
type entry[S comparable] struct {
	state S
	id    uint32
}

// chunk is how many states a level allocates at a time.
const chunk = 1 << 10

// level is the frontier: the states at one distance from the start. It grows and shrinks in chunks, since the
// frontier is most of a search's memory, and a slice that doubles needs three times its length.
type level[S comparable] struct {
	chunks [][]entry[S]
	n      int
}

func (l *level[S]) len() int { return l.n }

func (l *level[S]) add(s *S, id uint32) {
	if l.n%chunk == 0 {
		l.chunks = append(l.chunks, make([]entry[S], 0, chunk))
	}
	last := &l.chunks[len(l.chunks)-1]
	*last = append(*last, entry[S]{*s, id})
	l.n++
}

// drain visits the states in order as long as f says so, and lets go of them.
func (l *level[S]) drain(f func(e *entry[S]) bool) {
	for i := range l.chunks {
		for k := range l.chunks[i] {
			if !f(&l.chunks[i][k]) {
				return
			}
		}
		l.chunks[i] = nil
	}
}
