package model

// apply runs one transaction over all names of a.
func (m *Multi) apply(s *MultiState, a int, r *multiRequest) multiReply {
	switch r.Op {
	case opEnter:
		return m.enter(s, a)
	case opLook:
		return m.look(s, a)
	case opClaim:
		return m.claim(s, a, r.P)
	case opCancel:
		return m.cancel(s, a, r.Void)
	case opVoid:
		return m.writeVoid(s, a)
	case opPass:
		return m.pass(s, a, r)
	}
	return multiReply{}
}

// takeAll grants every name of a in the present revision, with the record of the set.
func (m *Multi) takeAll(s *MultiState, a int) multiReply {
	for _, n := range m.names(a) {
		m.grantTo(s, a, n, s.Rev)
	}
	if m.isSet(a) {
		s.Sets[a] = s.Rev
	}
	return multiReply{Code: codeGranted, P: s.Rev}
}

// mine returns the revision of a's grants, by its proof: the record of a set, the grant of a single name.
func (m *Multi) mine(s *MultiState, a int) int8 {
	if m.isSet(a) {
		if s.Broken[a] > 0 {
			return s.Broken[a]
		}
		return s.Sets[a]
	}
	if n := m.names(a)[0]; s.Grants[n].A == int8(a+1) {
		return s.Grants[n].M
	}
	return 0
}

func (m *Multi) enter(s *MultiState, a int) multiReply {
	if s.Voids[a] {
		return multiReply{Code: codeRefused}
	}
	if s.Dead[a] {
		return multiReply{Code: codeNoLease}
	}
	free, queued := true, false
	for _, n := range m.names(a) {
		free = free && s.Grants[n].A == 0 && !m.anyWaits(s, n)
		queued = queued || s.Tickets[a][n].C > 0
	}
	switch tok := m.mine(s, a); {
	case free:
		s.Rev++
		return m.takeAll(s, a)
	case s.Broken[a] > 0: // it must not queue behind what is left of it
		return multiReply{Code: codeNotOwner}
	case tok > 0:
		return multiReply{Code: codeGranted, P: tok}
	case queued:
		return multiReply{Code: codeWait}
	}
	s.Rev++
	for _, n := range m.names(a) {
		s.Tickets[a][n] = place{C: s.Rev}
	}
	return multiReply{Code: codeWait}
}

// blocker picks one key in the first of its names where a is not both first and free.
func (m *Multi) blocker(s *MultiState, a int) int8 {
	for _, n := range m.names(a) {
		best := -1
		for b := range m.cfg.Members {
			if b != a && s.Tickets[b][n].C > 0 && m.ahead(s, b, a, n) && (best < 0 || m.ahead(s, best, b, n)) {
				best = b
			}
		}
		if best >= 0 {
			return blockIn(n, best)
		}
		if s.Grants[n].A != 0 && s.Grants[n].A != int8(a+1) {
			return blockOwner(n)
		}
	}
	return blockNone
}

func (m *Multi) look(s *MultiState, a int) multiReply {
	switch {
	case s.Broken[a] > 0:
		return multiReply{Code: codeNotOwner}
	case s.Sets[a] > 0:
		return multiReply{Code: codeGranted, P: s.Sets[a]}
	}
	for _, n := range m.names(a) {
		switch t := s.Tickets[a][n]; {
		case t.C == 0:
			return multiReply{Code: codeGone}
		case t.Granted && !m.isSet(a):
			return multiReply{Code: codeGranted, P: t.M}
		}
	}
	if b := m.blocker(s, a); b != blockNone {
		return multiReply{Code: codeWait, Blocker: b}
	}
	return multiReply{Code: codeMayClaim, P: s.Tickets[a][m.names(a)[0]].C}
}

func (m *Multi) claim(s *MultiState, a int, p int8) multiReply {
	for i, n := range m.names(a) {
		if i > 0 && m.cfg.Defect == ClaimIgnoresOneName {
			break
		}
		t := s.Tickets[a][n]
		if t.C != p || t.Granted || s.Grants[n].A != 0 || m.urgentWaits(s, a, n) {
			return m.look(s, a)
		}
	}
	s.Rev++
	return m.takeAll(s, a)
}

func (m *Multi) cancel(s *MultiState, a int, void bool) multiReply {
	if tok := m.mine(s, a); tok > 0 && m.isSet(a) {
		return multiReply{Code: codeGranted, P: tok}
	}
	queued := false
	for _, n := range m.names(a) {
		t := s.Tickets[a][n]
		if t.Granted && !m.isSet(a) {
			return multiReply{Code: codeGranted, P: t.M}
		}
		queued = queued || t.C > 0
	}
	if !queued {
		return multiReply{Code: codeGone}
	}
	s.Rev++
	for _, n := range m.names(a) {
		s.deleteTicket(a, n)
	}
	if void && m.cfg.Defect != SetWithoutVoid {
		s.Voids[a] = true
	}
	return multiReply{Code: codeDone}
}

func (m *Multi) writeVoid(s *MultiState, a int) multiReply {
	if s.Dead[a] {
		return multiReply{Code: codeNoLease}
	}
	s.Rev++
	s.Voids[a] = m.cfg.Defect != SetWithoutVoid
	if tok := m.mine(s, a); tok > 0 {
		return multiReply{Code: codeGranted, P: tok}
	}
	for _, n := range m.names(a) {
		if t := s.Tickets[a][n]; t.Granted && !m.isSet(a) {
			return multiReply{Code: codeGranted, P: t.M}
		} else if t.C > 0 {
			return multiReply{Code: codeWait}
		}
	}
	return multiReply{Code: codeGone}
}

// pass gives every name of a away, each behind its own grant: a part that somebody else took stops none of the rest.
func (m *Multi) pass(s *MultiState, a int, r *multiRequest) multiReply {
	rev := s.Rev + 1
	s.Rev = rev
	again, second := false, int8(0)
	for _, n := range m.names(a) {
		switch {
		case s.Grants[n].A == int8(a+1) && s.Grants[n].M == r.P:
			again = !m.passName(s, a, n, r.H[n], rev) || again
		case s.Grants[n].A == int8(a+1): // a late copy took it once more after it was forced out
			second = s.Grants[n].M
		case m.cfg.Defect != PassKeepsOtherTickets:
			s.deleteTicket(a, n)
		}
	}
	s.Sets[a], s.Broken[a] = 0, 0
	if r.Void && m.cfg.Defect != SetWithoutVoid {
		s.Voids[a] = true
	}
	switch {
	case again:
		return multiReply{Code: codeLineChanged, P: r.P, H: m.firsts(s, a)}
	case second > 0:
		return multiReply{Code: codeLineChanged, P: second, H: m.firsts(s, a)}
	}
	return multiReply{Code: codeDone}
}

// passName hands one name over, or frees it; false if the hint no longer tells who is first.
func (m *Multi) passName(s *MultiState, a, n int, h hint, rev int8) bool {
	b := int(h.A - 1)
	stands := h.A > 0 && s.Tickets[b][n].C == h.C && !s.Tickets[b][n].Granted && !m.urgentWaits(s, b, n)
	if m.cfg.Defect == SetSkippedInLine && stands && m.isSet(b) {
		for c := range m.cfg.Members {
			if c != a && !m.isSet(c) && s.waits(c, n) {
				b = c
				break
			}
		}
	}
	switch {
	case stands && (!m.isSet(b) || m.cfg.Defect == PartsHandedOver):
		s.Grants[n].A, s.Grants[n].M = 0, 0
		s.deleteTicket(a, n)
		m.grantTo(s, b, n, rev)
		if m.isSet(b) {
			m.grantPart(s, b, n)
		}
		return true
	case !stands && m.anyWaits(s, n):
		return false
	}
	s.deleteGrant(n) // nobody waits, or a set is first: it holds the head of the line, and claims for itself
	s.deleteTicket(a, n)
	return true
}

// grantPart is the defect of early parts: the set owns when its last name has come.
func (m *Multi) grantPart(s *MultiState, b, n int) {
	s.Tickets[b][n].Granted = false
	for _, k := range m.names(b) {
		if s.Grants[k].A != int8(b+1) {
			return
		}
	}
	for _, k := range m.names(b) {
		s.Grants[k].A = 0
	}
	m.takeAll(s, b)
	s.Members[b].Heard, s.Members[b].HeardM = heardGrant, s.Rev
}

// passForced is an operator's Pass of one name. It ends the whole set by overwriting its record, which then says that
// the set is broken, and by which revision its owner finds the parts that are left.
func (m *Multi) passForced(s *MultiState) {
	f, h := s.Force, s.ForceH
	a, n := int(f.A-1), int(f.Name)
	s.Force.A, s.Force.Name, s.Force.Tok, s.ForceH = 0, 0, 0, hint{}
	if s.Grants[n].A != f.A || s.Grants[n].M != f.Tok {
		return
	}
	rev := s.Rev + 1
	s.Rev = rev
	if !m.passName(s, a, n, h, rev) {
		s.Force, s.ForceH = f, m.first(s, n, a)
		return
	}
	s.Members[a].Ended = true
	switch {
	case !m.isSet(a) || m.cfg.Defect == ForcedKeepsRecord:
	case m.cfg.Defect == ForcedDeletesRecord:
		s.Sets[a] = 0
	default:
		s.Sets[a], s.Broken[a] = rev, f.Tok
	}
}

func (m *Multi) expire(s *MultiState, a int) {
	s.Dead[a] = true
	s.Rev++
	for _, n := range m.names(a) {
		if s.Grants[n].A == int8(a+1) {
			s.deleteGrant(n)
		}
		s.deleteTicket(a, n)
	}
	s.Sets[a], s.Broken[a], s.Voids[a] = 0, 0, false
}
