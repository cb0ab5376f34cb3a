package model

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
