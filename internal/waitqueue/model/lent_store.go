package model

// apply runs one transaction.
func (m *Lent) apply(s *LentState, r *lentRequest) lentReply {
	switch r.Op {
	case opTry, opEnter:
		return m.acquire(s, r)
	case opTakeUp:
		return m.takeUp(s, r)
	case opClaim:
		return m.claim(s, r)
	case opCancel:
		return m.cancel(s, r)
	case opVoid:
		return m.void(s, r)
	case opGiveUp, opPass:
		return m.pass(s, r)
	case opAsk:
		return m.state(s, r.ID)
	case opHome:
		s.Rev++
		s.Home = s.Rev
		return lentReply{Code: codeDone, Home: s.Home}
	}
	return lentReply{}
}

// state reads what there is of one acquisition.
func (m *Lent) state(s *LentState, id int8) lentReply {
	t, v := &s.Tickets[id-1], &s.Voids[id-1]
	rep := lentReply{Code: codeGone, Home: s.Home, Void: v.Rev, By: v.By, Found: id}
	switch {
	case s.Grant.A == id:
		rep.Code, rep.P, rep.OnGrant = codeGranted, s.Grant.M, true
	case t.Granted:
		rep.Code, rep.P = codeGranted, t.M
	case t.C > 0:
		rep.Code, rep.P = codeWait, t.C
	}
	return rep
}

// atHome is the guard of every request that may take the name or a place.
func (m *Lent) atHome(s *LentState, r *lentRequest) bool {
	return !m.lent(r.ID) || m.defect(NoHome) || s.Home == r.Came
}

// acquire is Try and Enter.
func (m *Lent) acquire(s *LentState, r *lentRequest) lentReply {
	found, onGrant := m.standing(s, r.ID)
	if !m.atHome(s, r) || s.Voids[r.ID-1].Rev > 0 {
		return m.tell(s, codeRefused, found, onGrant)
	}
	free := s.Grant.A == 0 && s.firstInLine() == 0
	if r.Op == opTry && !free {
		return m.tell(s, codeHeld, found, onGrant)
	}
	s.Rev++
	if r.Move {
		s.Home = s.Rev
	}
	switch {
	case free:
		m.grantTo(s, r.ID)
		return lentReply{Code: codeGranted, P: s.Rev, Home: s.Home}
	case s.Grant.A == r.ID:
		return lentReply{Code: codeGranted, P: s.Grant.M, Home: s.Home}
	case s.Tickets[r.ID-1].C > 0:
		return m.state(s, r.ID)
	case found > 0 && !m.defect(QueuesBehindItself):
		return m.tell(s, codeHeld, found, onGrant)
	}
	s.Tickets[r.ID-1] = place{C: s.Rev}
	return lentReply{Code: codeWait, P: s.Rev, Home: s.Home}
}

// tell answers with what stands of the lease.
func (m *Lent) tell(s *LentState, c code, found int8, onGrant bool) lentReply {
	rep := lentReply{Code: c, Home: s.Home, Found: found, OnGrant: onGrant}
	if found > 0 {
		rep.Void = s.Voids[found-1].Rev
		rep.P = s.Tickets[found-1].C
		if onGrant {
			rep.P = s.Grant.M
		}
	}
	return rep
}

// takeUp makes the sender responsible for what another host left.
func (m *Lent) takeUp(s *LentState, r *lentRequest) lentReply {
	v := &s.Voids[r.ID-1]
	stands := s.waits(r.ID) && s.Tickets[r.ID-1].C == r.P
	if r.OnGrant {
		stands = s.Grant.A == r.ID && s.Grant.M == r.P
	}
	if stands && v.Rev == r.Void {
		s.Rev++
		if m.lent(r.ID) && !m.defect(TakeUpLeavesHome) {
			s.Home = s.Rev
		}
		if !m.defect(TakesNothingUp) {
			*v = record{s.Rev, r.By}
		}
		if r.Own > 0 {
			s.Voids[r.Own-1] = record{s.Rev, over}
		}
	}
	return m.state(s, r.ID)
}

// over is in the void record of an acquisition whose own host gives it up.
const over = 100

// grantTo puts the grant at the store's revision, and looks for harm.
func (m *Lent) grantTo(s *LentState, id int8) {
	if s.Grant.M >= s.Rev {
		s.Harm = lentToken
	}
	for b := int8(1); b <= maxIDs; b++ {
		if b != id && s.waits(b) && (s.Tickets[id-1].C == 0 || s.Tickets[b-1].C < s.Tickets[id-1].C) {
			s.Harm = lentOvertakes
			if m.lent(b) && m.lent(id) {
				s.Harm = lentItself
			}
		}
	}
	s.Grant.A, s.Grant.M = id, s.Rev
	if t := &s.Tickets[id-1]; t.C > 0 {
		t.Granted, t.M = true, s.Rev
		m.hear(s, id, heardGrant, s.Rev)
	}
}

func (m *Lent) hear(s *LentState, id int8, h heard, rev int8) {
	for k := range m.cfg.Calls {
		c := &s.Calls[k]
		if c.ID == id && c.Watches && c.Heard == heardNothing {
			c.Heard, c.HeardM = h, rev
		}
	}
}

func (m *Lent) deleteTicket(s *LentState, id int8) {
	if s.Tickets[id-1].C > 0 {
		s.Tickets[id-1] = place{}
		m.hear(s, id, heardDelete, 0)
	}
}

// claim takes the name for the first in line; which key wakes it is [Line]'s.
func (m *Lent) claim(s *LentState, r *lentRequest) lentReply {
	if s.waits(r.ID) && s.Tickets[r.ID-1].C == r.P && s.firstInLine() == r.ID && s.Grant.A == 0 {
		s.Rev++
		m.grantTo(s, r.ID)
	}
	return m.state(s, r.ID)
}

// responsible is the guard of whoever gives an acquisition up.
func (m *Lent) responsible(s *LentState, r *lentRequest) bool {
	return !m.lent(r.ID) || s.Voids[r.ID-1].Rev == r.Void
}

func (m *Lent) cancel(s *LentState, r *lentRequest) lentReply {
	if !m.responsible(s, r) && !m.defect(CancelIgnoresTakeUp) {
		rep := m.state(s, r.ID)
		rep.Code = codeNotOwner
		return rep
	}
	if s.waits(r.ID) && s.Tickets[r.ID-1].C == r.P {
		s.Rev++
		m.deleteTicket(s, r.ID)
		return lentReply{Code: codeDone}
	}
	return m.state(s, r.ID)
}

func (m *Lent) void(s *LentState, r *lentRequest) lentReply {
	mine := s.Voids[r.ID-1].By == over
	if !m.responsible(s, r) && !mine {
		rep := m.state(s, r.ID)
		rep.Code = codeNotOwner
		return rep
	}
	if !mine {
		s.Rev++
		s.Voids[r.ID-1] = record{s.Rev, over}
	}
	return m.state(s, r.ID)
}

// pass ends an ownership: by a release, or because its host gives it up.
func (m *Lent) pass(s *LentState, r *lentRequest) lentReply {
	if r.Op == opGiveUp && !m.responsible(s, r) && !m.defect(GiveUpIgnoresTakeUp) {
		return lentReply{Code: codeDone}
	}
	s.Rev++
	if s.Grant.A != r.ID || s.Grant.M != r.P {
		m.deleteTicket(s, r.ID)
		if r.Unknown {
			s.Voids[r.ID-1] = record{s.Rev, over}
		}
		if s.Grant.A == r.ID { // a second grant of its own
			return lentReply{Code: codeLineChanged, P: s.Grant.M}
		}
		return lentReply{Code: codeNotOwner}
	}
	if r.Op == opPass {
		m.released(s, r.P)
	}
	s.Grant.A, s.Grant.M = 0, 0
	m.deleteTicket(s, r.ID)
	if r.Unknown {
		s.Voids[r.ID-1] = record{s.Rev, over}
	}
	if r.Move && !m.defect(ReleaseLeavesHome) {
		s.Home = s.Rev
	}
	if next := s.firstInLine(); next > 0 {
		m.grantTo(s, next)
	}
	return lentReply{Code: codeDone, P: s.Rev}
}

// released notes for all calls that have or will learn of the token that their
// session let it go.
func (m *Lent) released(s *LentState, tok int8) {
	for k := range m.cfg.Calls {
		c := &s.Calls[k]
		heard := c.Heard == heardGrant && c.HeardM == tok
		answered := c.Sent && c.Applied && c.Rep.P == tok && (c.Rep.Code == codeGranted || c.Rep.OnGrant)
		if heard || answered || c.Tok == tok || c.Out.Op == opTakeUp && c.Out.OnGrant && c.Out.P == tok {
			c.Ended = true
		}
	}
}

// expire ends the lease that the hosts serve.
func (m *Lent) expire(s *LentState) {
	s.Dead = true
	s.Rev++
	s.Home = 0
	for id := int8(1); id <= maxIDs; id++ {
		if callOf(id) < len(m.cfg.Calls) && m.lent(id) {
			m.deleteTicket(s, id)
			s.Voids[id-1] = record{}
			if s.Grant.A == id {
				s.Grant.A, s.Grant.M = 0, 0
			}
		}
	}
}
