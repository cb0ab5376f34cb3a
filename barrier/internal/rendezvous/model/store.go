package model

import "math/bits"

// Meeting is a double or a cyclic barrier with its members.
type Meeting struct {
	cfg     Config
	scratch State
}

// NewMeeting returns the model of a configuration.
func NewMeeting(cfg Config) *Meeting { return &Meeting{cfg: cfg} }

func (m *Meeting) defect(d Defect) bool { return m.cfg.Defect == d }

func (m *Meeting) breaks() bool { return m.cfg.Breaks || m.cfg.Cyclic }

func (m *Meeting) session(a int) int { return m.cfg.Arrivals[a].Session }

func has(set int8, a int) bool { return set&(1<<a) != 0 }

func size(set int8) int8 { return int8(bits.OnesCount8(uint8(set))) }

// stands tells whether a's ticket stands in a generation.
func (s *State) stands(a int, g int8) bool { return s.Ticket[a].C > 0 && s.Ticket[a].G == g }

// standing returns who has a ticket in a generation.
func (s *State) standing(g int8) (set int8) {
	for a := range s.Ticket {
		if s.stands(a, g) {
			set |= 1 << a
		}
	}
	return set
}

// oldest returns the n oldest tickets of a generation.
func (m *Meeting) oldest(s *State, g int8) int8 {
	set := s.standing(g)
	for size(set) > m.cfg.Parties {
		last := -1
		for a := range s.Ticket {
			if has(set, a) && (last < 0 || s.Ticket[a].C > s.Ticket[last].C) {
				last = a
			}
		}
		set &^= 1 << last
	}
	return set
}

// clear deletes what stands below a generation.
func (s *State) clear(g int8, tickets bool) {
	for a := range s.Ticket {
		if tickets && s.Ticket[a].G == g {
			s.Ticket[a] = struct{ C, G int8 }{}
		}
		if s.Party[a].G == g {
			s.Party[a] = struct{ C, G int8 }{}
		}
	}
}

// next begins the next generation.
func (s *State) next() {
	s.Gens[s.G].End = s.Ver
	s.G++
	s.Inside = false
}

// apply runs a's request in the store.
func (m *Meeting) apply(s *State, a int, r *request) reply {
	rep := reply{OK: m.guard(s, a, r)}
	if rep.OK {
		if (r.Op == opJoin || r.Op == opCancel && r.Void) && s.Dead[m.session(a)] {
			return reply{NoLease: true, V: s.Ver}
		}
		s.Rev++
		m.effect(s, a, r)
	} else if r.Op == opLeave && s.stands(a, r.G) {
		s.Rev++
		s.Ticket[a] = struct{ C, G int8 }{}
	}
	rep.V, rep.R, rep.Mine, rep.Voided = s.Ver, s.Rev, s.stands(a, r.G), s.Void[a]
	rep.List = m.oldest(s, r.G)
	return rep
}

// guard says whether a request's comparisons hold.
func (m *Meeting) guard(s *State, a int, r *request) bool {
	same := s.Ver == r.V
	switch r.Op {
	case opBegin:
		return same
	case opJoin:
		return (same || m.defect(JoinIgnoresState)) && !s.Void[a] && !s.stands(a, r.G)
	case opReady:
		return (same || m.defect(ReadyIgnoresState)) && (s.Left <= r.R || m.defect(ReadyIgnoresLeft))
	case opCancel:
		return (same || m.defect(CancelIgnoresReady)) && !s.Void[a]
	case opLeave:
		return same && s.standing(r.G) == 1<<a && !m.defect(LeaveForgetsTheLast)
	case opOver:
		return same && s.Inside && (s.standing(r.G) == 0 || m.defect(OverIgnoresTickets))
	case opBreak:
		x := int(r.X - 1)
		return same && (!s.stands(x, r.G) || m.defect(BreakIgnoresTicket)) && s.Party[x].C == r.C && s.Party[x].G == r.G
	}
	return false
}

// effect is what the transaction writes.
func (m *Meeting) effect(s *State, a int, r *request) {
	switch r.Op {
	case opBegin:
		s.Ver, s.G = s.Ver+1, s.G+1
	case opJoin:
		s.Ticket[a].C, s.Ticket[a].G = s.Rev, r.G
		if m.breaks() {
			s.Party[a] = s.Ticket[a]
		}
		if c := &s.Arr[a]; c.Phase == done || c.G != r.G && c.Phase != crashed {
			s.Harm = "a ticket was put for an arrival that is over, or elsewhere"
		}
	case opReady:
		m.ready(s, r)
	case opCancel:
		if s.Ticket[a].G == r.G {
			s.Ticket[a] = struct{ C, G int8 }{}
		}
		if s.Party[a].G == r.G && !m.defect(CancelKeepsParty) {
			s.Party[a] = struct{ C, G int8 }{}
		}
		s.Left = s.Rev
		s.Void[a] = s.Void[a] || r.Void
	case opLeave:
		s.Ticket[a] = struct{ C, G int8 }{}
		s.Ver++
		s.next()
	case opOver:
		s.Ver++
		s.next()
	case opBreak:
		s.Ver++
		s.Gens[s.G].Lost = r.X
		s.clear(s.G, true)
		s.Left = 0
		s.next()
	}
}

func (m *Meeting) ready(s *State, r *request) {
	if s.Gens[r.G].Ready > 0 {
		s.Harm = "a generation became ready twice"
		return
	}
	s.Ver++
	s.Left = 0
	s.Gens[r.G].Mem, s.Gens[r.G].Ready = r.List, s.Ver
	s.clear(r.G, m.cfg.Cyclic)
	if m.cfg.Cyclic {
		s.next()
	} else {
		s.Inside = true
	}
}
