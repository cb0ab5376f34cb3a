package rendezvous

import (
	"slices"
	"sync"
)

// enough is how much a session remembers of the generations of one name, in bytes
// of lists: what a goroutine that was slow to wake may have missed.
const enough = 256 << 10

// memory is how the generations ended that a session heard of. The state key's
// past is for those who heard of nothing.
type memory struct {
	mu    sync.Mutex
	ends  []ended // the oldest first
	bytes int
}

// remember takes what a state says of its own and of past generations.
func (p *place) remember(s state) {
	m := &p.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	last := int64(0)
	if n := len(m.ends); n > 0 {
		last = m.ends[n-1].Gen
	}
	if s.rev == 0 || s.Gen <= last { // another count of generations
		m.ends, m.bytes, last = nil, 0, 0
	}
	for _, e := range slices.Backward(s.Past) {
		if e.Gen > last {
			m.ends, m.bytes = append(m.ends, e), m.bytes+len(e.Members)+64
		}
	}
	for len(m.ends) > 1 && m.bytes > enough {
		m.bytes -= len(m.ends[0].Members) + 64
		m.ends = m.ends[1:]
	}
}

// recall returns how a generation ended.
func (p *place) recall(s state, gen int64) (ended, bool) {
	if e, ok := s.past(gen); ok {
		return e, true
	}
	m := &p.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range slices.Backward(m.ends) {
		if e.Gen == gen {
			return e, true
		}
	}
	return ended{}, false
}
