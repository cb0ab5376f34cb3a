package model

import search "github.com/conclavehq/conclave/internal/waitqueue/model"

// segment returns the one that an enqueue opens.
func (m *Queue) segment(s *State) int8 {
	if !m.cfg.Lanes {
		return 0
	}
	return s.Lane + 1
}

// opens tells whether the lane has not gone past the segment of an enqueue. The first
// one has to be missing.
func (m *Queue) opens(s *State, r request) bool {
	switch {
	case !m.cfg.Lanes, m.is(LaneUnguarded):
		return true
	case r.Segment == 1:
		return s.Lane == 0
	}
	return s.Lane > 0 && s.Lane <= r.Segment
}

// openByOther is a fault: other producers are not in the model.
func (m *Queue) openByOther(s *State, emit func(search.Step, *State)) {
	if s.Left.Open == 0 || s.Lane == 0 {
		return
	}
	n := *s
	n.Left.Open--
	n.Lane++
	emit(search.Step{Act: actOpen, Fault: true}, &n)
}

// cursor returns where a consumer reads the lane next: no item that it could see is in
// front of it.
func (m *Queue) cursor(s *State, c int) int8 {
	from := max(s.Consumers[c].Cursor, 1)
	if s.Consumers[c].Cursor == 0 {
		from = max(s.Head, 1)
	}
	if s.Lane < from {
		return max(s.Lane, 1)
	}
	next := s.Lane
	for i := range m.cfg.Items {
		if it := &s.Items[i]; it.At == ready && it.Segment >= from {
			next = min(next, it.Segment)
		}
	}
	return next
}

// visible tells whether a consumer reads the segment of an item that waits.
func (m *Queue) visible(a *actor, it *item) bool { return it.Segment == 0 || it.Segment >= a.Cursor }
