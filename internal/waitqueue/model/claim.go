package model

// blocker picks the one key that stands between a's ticket and its grant, blockNone if nothing does.
// As long as that key stands a claim could not succeed, so its event is the only one that a waits for beside its own.
func (m *Line) blocker(s *State, a int) int8 {
	best := -1
	for b := range m.cfg.Acquirers {
		if b == a || s.Tickets[b].C == 0 || !m.ahead(s, b, a) || !m.minds(s, a, b) {
			continue
		}
		if best < 0 || m.ahead(s, best, b) {
			best = b
		}
	}
	switch {
	case best >= 0 && m.kind(a) == Permits:
		return blockLeaves + int8(best)
	case best >= 0:
		return blockTicket + int8(best)
	case m.kind(a) == Permits && m.permits(s)+m.cfg.Acquirers[a].Permits > s.Limit.N:
		return blockHolds
	case m.kind(a) == Permits:
		return blockNone
	case s.Grant.A > 0:
		return blockGrant
	case m.kind(a) == Writer && m.held(s, Reader, -1):
		return m.oldestReader(s)
	case s.Shadow > 0 && !m.defect(ClaimIgnoresShadow):
		return blockShadow
	}
	return blockNone
}

// minds says whether b's ticket, ahead of a's, keeps a waiting.
func (m *Line) minds(s *State, a, b int) bool {
	switch m.kind(a) {
	case Reader:
		return m.kind(b) == Writer
	case Permits:
		return !s.Tickets[b].Granted
	default:
		return true
	}
}

func (m *Line) oldestReader(s *State) int8 {
	best := -1
	for b := range m.cfg.Acquirers {
		if s.Holds[b].M > 0 && m.holdsAs(b) == Reader && (best < 0 || s.Holds[b].M < s.Holds[best].M) {
			best = b
		}
	}
	if best < 0 {
		return blockNone
	}
	return blockReader + int8(best)
}

// look reads what concerns a at one revision, and concludes.
func (m *Line) look(s *State, a int, v view) reply {
	t := &s.Tickets[a]
	switch {
	case t.C == 0:
		return reply{Code: codeGone}
	case t.Granted:
		return reply{Code: codeGranted, P: t.M, X: t.X, H: t.H}
	}
	now := view{V: s.Rev, L: s.Limit.M}
	if b := m.blocker(s, a); b != blockNone {
		return reply{Code: codeWait, P: t.C, Blocker: b, View: now}
	}
	return reply{Code: codeMayClaim, P: t.C, View: now}
}

// claim is the transaction of a waiter whom nothing blocked when it looked.
func (m *Line) claim(s *State, a int, r *request) reply {
	ok := s.stands(hint{int8(a + 1), r.P})
	ok = ok && (s.Shadow == 0 || m.defect(ClaimIgnoresShadow))
	switch m.kind(a) {
	case Writer:
		ok = ok && (s.Grant.A == 0 || m.defect(ClaimIgnoresGrant)) && !m.held(s, Reader, -1) &&
			(!m.urgentWaits(s, a) || m.defect(PassIgnoresUrgent))
	case Reader:
		ok = ok && s.Grant.A == 0 && (!m.urgentSince(s, a, r.View.V) || m.defect(ReaderClaimIgnoresUrgent))
	default:
		ok = ok && s.Limit.M == r.View.L && (!m.permitsSince(s, r.View.V) || m.defect(PermitsClaimIgnoresHolds)) &&
			(!m.urgentWaits(s, a) || m.defect(PermitsClaimIgnoresUrgent))
	}
	if !ok {
		return m.look(s, a, r.View)
	}
	s.Rev++
	m.grantTo(s, a, s.Rev, 0)
	m.mark(s, a, s.Rev, 0, hints{})
	return reply{Code: codeGranted, P: s.Rev}
}
