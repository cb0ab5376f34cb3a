package model

// seen is what a read of the whole name tells a: the fit of its kind, permits and limit.
func (m *Line) seen(s *State, a int) view {
	q := &m.cfg.Acquirers[a]
	v := view{V: s.Rev, L: s.Limit.M}
	stale := !m.held(s, Permits, -1) && !m.anyTicket(s, -1)
	switch {
	case q.Kind != Permits && s.Limit.M == 0:
	case q.Kind != Permits && stale:
		v.Fit = fitsStale
	case q.Kind != Permits:
		v.Fit = fitsNowhere
	case s.Limit.M == 0 && (s.Grant.A > 0 || s.Shadow > 0 || m.held(s, Reader, -1) || m.anyTicket(s, -1)):
		v.Fit = fitsNowhere
	case s.Limit.M == 0:
	case s.Limit.N != q.Limit && stale:
		v.Fit = fitsStale
	case s.Limit.N != q.Limit:
		v.Fit = fitsNowhere
	case m.permits(s)+q.Permits > q.Limit:
		v.Fit = fitsNot
	}
	return v
}

// limitAllows is the limit's part of the guard of a free acquisition.
func (m *Line) limitAllows(s *State, a int, v view) bool {
	permits := m.kind(a) == Permits
	switch {
	case v.L != s.Limit.M && !(m.defect(WriterIgnoresLimit) && !permits):
		return false
	case v.L == 0 && permits:
		return s.Grant.A == 0 && s.Shadow == 0 && !m.held(s, Reader, -1) && !m.anyTicket(s, -1)
	case v.L == 0:
		return true
	case v.Fit == fitsStale:
		return !m.held(s, Permits, -1) && (!m.anyTicket(s, -1) || m.defect(StaleLimitIgnoresLine))
	}
	return permits
}

// free is the guard of Try, and of the first branch of Enter.
func (m *Line) free(s *State, a int, v view) bool {
	ignoresLine := m.defect(TryIgnoresLine) || m.defect(StaleLimitIgnoresLine) && v.Fit == fitsStale
	if m.anyWaits(s) && !ignoresLine || !m.limitAllows(s, a, v) {
		return false
	}
	// Readers and permits conflict with nothing of their own, so a late copy would put the key a second time
	// and change the token under its owner.
	if s.Holds[a].M > 0 && !m.defect(ReaderTakesAgain) {
		return false
	}
	switch m.kind(a) {
	case Writer:
		return s.Grant.A == 0 && m.noShadow(s) && (!m.held(s, Reader, -1) || m.defect(WriterIgnoresReaders))
	case Reader:
		return s.Grant.A == 0 && m.noShadow(s)
	default:
		return v.Fit != fitsNot && (!m.permitsSince(s, v.V) || m.defect(PermitsClaimIgnoresHolds))
	}
}

func (m *Line) noShadow(s *State) bool { return s.Shadow == 0 || m.defect(TakeIgnoresShadow) }

// take is the effect of a free acquisition.
func (m *Line) take(s *State, a int, v view) reply {
	s.Rev++
	q := &m.cfg.Acquirers[a]
	switch {
	case q.Kind == Permits && (v.L == 0 || v.Fit == fitsStale):
		s.Limit.M, s.Limit.N = s.Rev, q.Limit
	case q.Kind != Permits && v.Fit == fitsStale:
		s.Limit.M, s.Limit.N = 0, 0
	}
	m.grantTo(s, a, s.Rev, 0)
	return reply{Code: codeGranted, P: s.Rev}
}

// mine finds what an earlier copy of the same request did.
func (m *Line) mine(s *State, a int) (reply, bool) {
	switch {
	case s.Grant.A == int8(a+1):
		return reply{Code: codeGranted, P: s.Grant.M, H: s.Tickets[a].H}, true
	case s.Holds[a].M > 0:
		return reply{Code: codeGranted, P: s.Holds[a].M, X: s.Holds[a].X, H: s.Tickets[a].H}, true
	}
	return reply{}, false
}

func (m *Line) try(s *State, a int, r *request) reply {
	switch {
	case s.Voids[a]:
		return reply{Code: codeRefused}
	case m.free(s, a, r.View):
		if s.Dead[m.session(a)] {
			return reply{Code: codeNoLease}
		}
		return m.take(s, a, r.View)
	}
	if rep, ok := m.mine(s, a); ok {
		return rep
	}
	v := m.seen(s, a)
	if v.L != r.View.L || v.Fit == fitsNowhere {
		return reply{Code: codeLimit, View: v}
	}
	return reply{Code: codeHeld, View: v}
}

func (m *Line) enter(s *State, a int, r *request) reply {
	switch {
	case s.Voids[a]:
		return reply{Code: codeRefused}
	case m.free(s, a, r.View):
		if s.Dead[m.session(a)] {
			return reply{Code: codeNoLease}
		}
		return m.take(s, a, r.View)
	}
	if rep, ok := m.mine(s, a); ok {
		return rep
	}
	if s.Tickets[a].C > 0 && !m.defect(EnterOverwritesTicket) {
		return m.look(s, a, r.View)
	}
	if !m.mayQueue(s, a, r.View) {
		return reply{Code: codeLimit, View: m.seen(s, a)}
	}
	if s.Dead[m.session(a)] {
		return reply{Code: codeNoLease}
	}
	s.Rev++
	if s.Tickets[a].C > 0 { // the defect: a second put reads as granted
		m.mark(s, a, s.Rev, 0, hints{})
		return m.look(s, a, r.View)
	}
	s.Tickets[a] = ticket{C: s.Rev}
	m.deleteShadow(s, a) // of a grant that was deleted by hand before its reply came
	return m.look(s, a, r.View)
}

// mayQueue is the limit's part of the guard of a ticket.
func (m *Line) mayQueue(s *State, a int, v view) bool {
	if m.defect(TicketIgnoresLimit) {
		return true
	}
	if m.kind(a) == Permits {
		return v.L != 0 && v.L == s.Limit.M && v.Fit != fitsStale
	}
	return s.Limit.M == 0
}
