package model

// cancel takes the own ticket out of line if it still waits.
func (m *Line) cancel(s *State, a int, r *request) reply {
	t := &s.Tickets[a]
	switch {
	case t.C == 0:
		return reply{Code: codeGone}
	case t.C == r.P && (!t.Granted || m.defect(CancelUnguarded)):
		s.Rev++
		s.deleteTicket(a)
		if r.Void {
			m.void(s, a)
		}
		return reply{Code: codeDone}
	case t.Granted:
		return reply{Code: codeGranted, P: t.M, X: t.X, H: t.H}
	}
	return reply{Code: codeWait, P: t.C}
}

// writeVoid makes sure that no copy of a request takes anything for a any more, and reads what one may have taken.
func (m *Line) writeVoid(s *State, a int) reply {
	if s.Dead[m.session(a)] {
		return reply{Code: codeNoLease}
	}
	s.Rev++
	m.void(s, a)
	if rep, ok := m.mine(s, a); ok {
		return rep
	}
	m.deleteShadow(s, a) // of a grant that was deleted by hand
	t := &s.Tickets[a]
	switch {
	case t.Granted: // its grant was deleted by hand: a Pass of that token cleans up
		return reply{Code: codeGranted, P: t.M, X: t.X}
	case t.C > 0:
		return reply{Code: codeWait, P: t.C}
	}
	return reply{Code: codeGone}
}

// apply runs one transaction.
func (m *Line) apply(s *State, a int, r *request) reply {
	switch r.Op {
	case opView:
		return reply{Code: codeView, View: m.seen(s, a)}
	case opTry:
		return m.try(s, a, r)
	case opEnter:
		return m.enter(s, a, r)
	case opLook:
		return m.look(s, a, r.View)
	case opClaim:
		return m.claim(s, a, r)
	case opCancel:
		return m.cancel(s, a, r)
	case opVoid:
		return m.writeVoid(s, a)
	case opPass:
		return m.pass(s, a, r)
	case opDowngrade:
		return m.downgrade(s, a, r)
	}
	return reply{}
}
