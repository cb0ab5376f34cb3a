package model

import "slices"

// Check returns what is wrong with a state.
func (m *Model) Check(s *State) string {
	for i := range m.cfg.Regs {
		r := s.Regs[i]
		if r.Phase == standing && r.Inc == 0 {
			return "a registration stands without an incarnation"
		}
	}
	return ""
}

// Settled returns what is wrong with a state in which only faults can happen:
// either everything was deregistered and nothing is left, or the newest
// registration stands, and no other.
func (m *Model) Settled(s *State) string {
	newest := 0
	for i := range m.cfg.Regs {
		if s.Regs[i].Inc >= s.Regs[newest].Inc {
			newest = i
		}
	}
	for i := range m.cfg.Regs {
		r := s.Regs[i]
		switch {
		case r.Phase == standing && !m.cfg.Stay:
			return "a registration could still be deregistered"
		case m.cfg.Stay && (r.Phase == standing) != (i == newest):
			return "another registration than the newest one stands"
		case r.Phase == standing && (s.Key.Reg != int8(i+1) || s.Key.Rev != r.Rev || s.Key.Lease != r.Lease): //nolint:gosec // at most 3
			return "a registration believes that it stands"
		}
	}
	if !m.cfg.Stay && s.Key.Reg != 0 {
		return "all registrations have ended, and an instance stands"
	}
	return ""
}

// Canonical maps states that differ in nothing but the size of their revisions to
// one of them.
func (m *Model) Canonical(s *State) {
	var all []int8
	s.revisions(func(r *int8) { all = append(all, *r) })
	slices.Sort(all)
	all = slices.Compact(append(all, 0))
	slices.Sort(all)
	all = slices.Compact(all)
	s.revisions(func(r *int8) {
		at, _ := slices.BinarySearch(all, *r)
		*r = int8(at) //nolint:gosec // there are few
	})
	slices.SortFunc(s.Late[:], func(a, b Request) int { return int(a.code()) - int(b.code()) })
}

// revisions are all that a state has.
func (s *State) revisions(f func(*int8)) {
	f(&s.Rev)
	f(&s.Key.Inc)
	f(&s.Key.Rev)
	for i := range s.Regs {
		f(&s.Regs[i].Inc)
		f(&s.Regs[i].Rev)
	}
	for k := range s.Late {
		f(&s.Late[k].Guard)
		f(&s.Late[k].Inc)
	}
}

func (q Request) code() int32 {
	c := int32(q.Reg)<<24 | int32(q.Guard)<<16 | int32(q.Inc)<<8 | int32(q.Lease)<<1
	if q.Leave {
		c++
	}
	if q.First {
		c |= 1 << 30
	}
	return c
}
