package model

// Line is one name with its line, after a [Config].
type Line struct {
	cfg     Config
	scratch State // the successor under construction: saves an allocation a step
}

// NewLine returns the model of one name. The configuration must stay within the bounds of a state:
// 5 acquisitions, 5 sessions.
func NewLine(c Config) *Line { return &Line{cfg: c} }

// Start implements [Model].
func (m *Line) Start() State { return State{Left: m.cfg.Faults} }

func (m *Line) defect(d Defect) bool { return m.cfg.Defect == d }

func (m *Line) session(a int) int { return m.cfg.Acquirers[a].Session }

func (m *Line) kind(a int) Kind { return m.cfg.Acquirers[a].Kind }

// waits says whether a's ticket is in line with nothing granted.
func (s *State) waits(a int) bool { return s.Tickets[a].C > 0 && !s.Tickets[a].Granted }

// anyWaits is the negation of idle(line/).
func (m *Line) anyWaits(s *State) bool {
	for a := range m.cfg.Acquirers {
		if s.waits(a) {
			return true
		}
	}
	return false
}

// anyTicket is the negation of absent(line/), but for the ticket of except.
func (m *Line) anyTicket(s *State, except int) bool {
	for a := range m.cfg.Acquirers {
		if a != except && s.Tickets[a].C > 0 {
			return true
		}
	}
	return false
}

// urgentWaits is the negation of idle(above(a)).
func (m *Line) urgentWaits(s *State, a int) bool {
	for b := range m.cfg.Acquirers {
		if s.waits(b) && m.cfg.Acquirers[b].Urgency > m.cfg.Acquirers[a].Urgency {
			return true
		}
	}
	return false
}

// urgentSince is the negation of ModRevision(above(a)) < v + 1.
func (m *Line) urgentSince(s *State, a int, v int8) bool {
	for b := range m.cfg.Acquirers {
		t := &s.Tickets[b]
		if t.C > 0 && max(t.C, t.M) > v && m.cfg.Acquirers[b].Urgency > m.cfg.Acquirers[a].Urgency {
			return true
		}
	}
	return false
}

// holdsAs tells which prefix a's holding is under: a writer that was lowered holds as a reader.
func (m *Line) holdsAs(a int) Kind {
	if m.kind(a) == Permits {
		return Permits
	}
	return Reader
}

// held says whether a holding of that kind exists, but for that of except.
func (m *Line) held(s *State, k Kind, except int) bool {
	for a := range m.cfg.Acquirers {
		if a != except && s.Holds[a].M > 0 && m.holdsAs(a) == k {
			return true
		}
	}
	return false
}

// permits sums up what is held.
func (m *Line) permits(s *State) int8 {
	sum := int8(0)
	for a := range m.cfg.Acquirers {
		if s.Holds[a].M > 0 && m.holdsAs(a) == Permits {
			sum += m.cfg.Acquirers[a].Permits
		}
	}
	return sum
}

// permitsSince is the negation of ModRevision(hold/) < v + 1.
func (m *Line) permitsSince(s *State, v int8) bool {
	for a := range m.cfg.Acquirers {
		if s.Holds[a].M > v && m.holdsAs(a) == Permits {
			return true
		}
	}
	return false
}

// ahead says whether b's ticket comes before a's: by bucket, then by create revision. Who has no ticket is last.
func (m *Line) ahead(s *State, b, a int) bool {
	ub, ua := m.cfg.Acquirers[b].Urgency, m.cfg.Acquirers[a].Urgency
	if ub != ua {
		return ub > ua
	}
	return s.Tickets[a].C == 0 || s.Tickets[b].C < s.Tickets[a].C
}

// firstWaiting reads the line: the first waiting tickets but for that of except.
func (m *Line) firstWaiting(s *State, except int) (h hints) {
	last := -1
	for i := range h {
		best := -1
		for a := range m.cfg.Acquirers {
			if a == except || !s.waits(a) || (last >= 0 && !m.ahead(s, last, a)) {
				continue
			}
			if best < 0 || m.ahead(s, a, best) {
				best = a
			}
		}
		if best < 0 {
			break
		}
		h[i] = hint{int8(best + 1), s.Tickets[best].C}
		last = best
	}
	return h
}

// stands says whether the hinted ticket waits unmodified.
func (s *State) stands(h hint) bool {
	return h.A > 0 && s.Tickets[h.A-1].C == h.C && !s.Tickets[h.A-1].Granted
}
