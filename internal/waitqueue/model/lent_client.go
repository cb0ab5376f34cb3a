package model

// send puts a transaction on its way.
func (m *Lent) send(s *LentState, k int, p phase, r lentRequest) {
	c := &s.Calls[k]
	if h := m.host(k); h > 0 && (r.Op == opTry || r.Op == opEnter) {
		r.Came, r.Move = s.Hosts[h].Rev, s.Hosts[h].Rev == 0
		switch {
		case s.Hosts[h].Mine || r.Move:
		case m.defect(MovesWhileAcquiring):
			r.Move = true
		default: // the home first
			c.Next, p, r = r.Op, moving, lentRequest{Op: opHome, ID: r.ID}
		}
	}
	c.Phase, c.Out, c.Sent, c.Applied, c.Rep = p, r, true, false, lentReply{}
}

// forget drops the transaction under way; it may still be applied later.
func (c *lentCall) forget() bool {
	ok := true
	if c.Sent && !c.Applied && c.Out.Op != opAsk {
		ok = false
		for i := range c.Late {
			if c.Late[i].Op == opNone || c.Late[i] == c.Out {
				c.Late[i], ok = c.Out, true
				break
			}
		}
	}
	c.Out, c.Sent, c.Applied, c.Rep = lentRequest{}, false, false, lentReply{}
	return ok
}

func (s *LentState) finish(k int, p phase) {
	s.Calls[k] = lentCall{Phase: p, Late: s.Calls[k].Late}
}

// begin starts a call, or starts it anew after another host took its ticket up.
func (m *Lent) begin(s *LentState, k int, fresh int8) {
	if fresh > 1 {
		s.Harm = lentFresh
		return
	}
	late, cancel := s.Calls[k].Late, s.Calls[k].Cancel
	s.Calls[k] = lentCall{Late: late, Cancel: cancel, Fresh: fresh}
	m.try(s, k)
}

// try sends Try for the call's own acquisition.
func (m *Lent) try(s *LentState, k int) {
	c := &s.Calls[k]
	c.ID, c.Watches, c.Heard, c.HeardM, c.Adopted, c.Told = c.own(k), false, heardNothing, 0, 0, false
	m.send(s, k, trying, lentRequest{Op: opTry, ID: c.ID})
}

// saw takes the home's revision from a reply.
func (m *Lent) saw(s *LentState, k int, home int8) {
	h := &s.Hosts[m.host(k)]
	if m.host(k) > 0 && home != h.Rev {
		h.Rev, h.Mine = home, false
	}
}

// atHomeNow notes that the host wrote the home.
func (m *Lent) atHomeNow(s *LentState, k int, home int8) {
	if h := &s.Hosts[m.host(k)]; m.host(k) > 0 && home >= h.Rev {
		h.Rev, h.Mine = home, true
	}
}

// answer acts upon the reply of the transaction under way.
func (m *Lent) answer(s *LentState, k int) {
	c := &s.Calls[k]
	out, rep := c.Out, c.Rep
	c.forget()
	switch out.Op {
	case opTry, opEnter:
		m.answerAcquire(s, k, out, rep)
	case opTakeUp:
		m.answerTakeUp(s, k, out, rep)
	case opHome:
		m.atHomeNow(s, k, rep.Home)
		next := lentRequest{Op: c.Next, ID: c.ID}
		m.send(s, k, next.phase(), next)
	case opClaim:
		m.answerClaim(s, k, rep)
	case opAsk:
		if rep.Void > 0 && rep.Void != c.Adopted && rep.By != over {
			m.begin(s, k, c.Fresh+1)
			return
		}
		m.giveUp(s, k)
	case opCancel, opVoid:
		m.answerEnding(s, k, out, rep)
	case opGiveUp, opPass:
		if rep.Code == codeLineChanged {
			out.P = rep.P
			m.send(s, k, c.Phase, out)
			return
		}
		m.ended(s, k, out, rep)
	}
}

// ended ends a call that let go what it had.
func (m *Lent) ended(s *LentState, k int, out lentRequest, rep lentReply) {
	if out.Move && rep.Code == codeDone && !m.defect(ReleaseLeavesHome) {
		h := &s.Hosts[s.Calls[k].Via]
		if rep.P >= h.Rev {
			h.Rev, h.Mine = rep.P, true
		}
	}
	s.finish(k, done)
}

func (m *Lent) answerAcquire(s *LentState, k int, out lentRequest, rep lentReply) {
	c := &s.Calls[k]
	if rep.Code == codeGranted || rep.Code == codeWait || rep.Code == codeHeld && out.Op == opEnter {
		if out.Move {
			m.atHomeNow(s, k, rep.Home)
		}
	} else {
		m.saw(s, k, rep.Home)
	}
	switch {
	case rep.Code == codeGranted:
		m.owns(s, k, rep.P)
	case rep.Code == codeWait:
		c.Phase, c.C = waiting, rep.P
	case m.host(k) > 0 && rep.Found > 0 && (out.Op == opTry || rep.Code == codeHeld):
		m.goOn(s, k, rep)
	case m.host(k) > 0 && rep.Home != out.Came && !m.defect(NoHome):
		m.send(s, k, out.phase(), lentRequest{Op: out.Op, ID: c.ID})
	case rep.Code == codeRefused: // its void record stands: it was taken up
		m.begin(s, k, c.Fresh+1)
	case m.cfg.Calls[k].Try:
		m.giveUp(s, k)
	default:
		c.Watches = true
		m.send(s, k, entering, lentRequest{Op: opEnter, ID: c.ID})
	}
}

func (r *lentRequest) phase() phase {
	if r.Op == opTry {
		return trying
	}
	return entering
}

// goOn goes on with what stands of the lease.
func (m *Lent) goOn(s *LentState, k int, rep lentReply) {
	c := &s.Calls[k]
	if rep.OnGrant && m.host(callOf(rep.Found)) == m.host(k) && !c.Unknown {
		c.ID = rep.Found
		m.owns(s, k, rep.P)
		return
	}
	own := int8(0)
	if c.Unknown && rep.Found != c.own(k) {
		own = c.own(k)
	}
	c.ID, c.Watches, c.Heard, c.HeardM = rep.Found, !m.defect(WatchAfterTakeUp), heardNothing, 0
	if c.Tries++; c.Tries > 3 {
		s.Harm = lentFresh
		return
	}
	m.send(s, k, adopting, lentRequest{Op: opTakeUp, ID: rep.Found, Own: own, P: rep.P, Void: rep.Void, OnGrant: rep.OnGrant,
		By: int8(k)*4 + c.Tries})
}

func (m *Lent) answerTakeUp(s *LentState, k int, out lentRequest, rep lentReply) {
	c := &s.Calls[k]
	taken := rep.By == out.By || m.defect(TakesNothingUp) && rep.P == out.P
	c.Told = true
	if rep.Void == rep.Home && taken { // by this request
		m.atHomeNow(s, k, rep.Home)
	}
	switch {
	case rep.Code == codeGone || !taken:
		if c.Cancel {
			m.giveUp(s, k)
			return
		}
		unknown := c.Unknown
		m.try(s, k)
		c.Unknown = unknown
	case rep.Code == codeGranted:
		c.Unknown, c.Adopted = false, rep.Void
		m.owns(s, k, rep.P)
	default:
		c.Unknown, c.Adopted = false, rep.Void
		c.Phase, c.C, c.Watches = waiting, rep.P, true
		if c.Cancel {
			c.Watches, c.Heard, c.HeardM = false, heardNothing, 0
			m.send(s, k, cancelling, lentRequest{Op: opCancel, ID: c.ID, P: c.C, Void: c.Adopted})
		}
	}
}

func (m *Lent) answerClaim(s *LentState, k int, rep lentReply) {
	switch rep.Code {
	case codeGranted:
		m.owns(s, k, rep.P)
	case codeGone:
		m.gone(s, k)
	default:
		s.Calls[k].Phase = waiting
	}
}

// gone asks why the ticket is gone.
func (m *Lent) gone(s *LentState, k int) {
	m.send(s, k, asking, lentRequest{Op: opAsk, ID: s.Calls[k].ID})
}

// owns makes k the owner in its client's eyes.
func (m *Lent) owns(s *LentState, k int, tok int8) {
	c := &s.Calls[k]
	c.Tok, c.Watches, c.Heard, c.HeardM = tok, false, heardNothing, 0
	if c.Cancel && c.Told && !m.defect(GivesUpWhatOthersHave) {
		s.finish(k, done)
		return
	}
	if c.Cancel {
		m.send(s, k, givingUp, lentRequest{Op: opGiveUp, ID: c.ID, P: tok, Void: c.Adopted, Unknown: c.Unknown})
		return
	}
	c.Phase = owning
}

// giveUp ends a call that has nothing, unless a lost request says that it might.
func (m *Lent) giveUp(s *LentState, k int) {
	c := &s.Calls[k]
	c.Watches, c.Heard, c.HeardM = false, heardNothing, 0
	if !c.Cancel && !m.cfg.Calls[k].Try {
		s.Harm = lentDenied
	}
	if c.Unknown {
		c.ID, c.Adopted = c.own(k), 0
		m.send(s, k, voiding, lentRequest{Op: opVoid, ID: c.ID})
		return
	}
	s.finish(k, done)
}

func (m *Lent) answerEnding(s *LentState, k int, out lentRequest, rep lentReply) {
	c := &s.Calls[k]
	c.Unknown = false
	if out.Op == opVoid && rep.Code != codeNotOwner {
		c.Adopted = rep.Void
	}
	switch rep.Code {
	case codeGranted:
		c.Cancel = true
		m.owns(s, k, rep.P)
	case codeWait:
		m.send(s, k, cancelling, lentRequest{Op: opCancel, ID: c.ID, P: rep.P, Void: c.Adopted})
	default: // done, gone, or another host's by now
		s.finish(k, done)
	}
}
