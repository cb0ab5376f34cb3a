package model

func (m *Multi) send(s *MultiState, a int, p phase, r multiRequest) {
	c := &s.Members[a]
	c.Phase, c.Out, c.Sent, c.Applied, c.Rep = p, r, true, false, multiReply{}
}

// forget is [acquisition.forget] for a member.
func (c *member) forget() bool {
	ok := true
	if c.Sent && !c.Applied && c.Out.Op != opLook {
		ok = false
		for i := range c.Late {
			if c.Late[i].Op == opNone || c.Late[i] == c.Out {
				c.Late[i], ok = c.Out, true
				break
			}
		}
	}
	c.Out, c.Sent, c.Applied, c.Rep = multiRequest{}, false, false, multiReply{}
	return ok
}

func (c *member) unwatch() {
	c.Watches, c.Heard, c.HeardM, c.LookDue = false, heardNothing, 0, false
	c.Blocker, c.Unblock = blockNone, false
}

func (s *MultiState) finish(a int) {
	s.Members[a] = member{Phase: done, Late: s.Members[a].Late}
}

func (m *Multi) giveUp(s *MultiState, a int) {
	c := &s.Members[a]
	c.unwatch()
	if c.Unknown {
		m.send(s, a, voiding, multiRequest{Op: opVoid})
		return
	}
	s.finish(a)
}

// withdraw takes all tickets out of line.
func (m *Multi) withdraw(s *MultiState, a int) {
	s.Members[a].unwatch()
	m.send(s, a, cancelling, multiRequest{Op: opCancel, Void: s.Members[a].Unknown})
}

func (m *Multi) own(s *MultiState, a int, tok int8) {
	c := &s.Members[a]
	c.unwatch()
	c.Tok = tok
	if c.Cancel {
		m.release(s, a)
		return
	}
	c.Phase = owning
}

// release starts with what the client last knew of the lines: nothing.
func (m *Multi) release(s *MultiState, a int) {
	c := &s.Members[a]
	m.send(s, a, releasing, multiRequest{Op: opPass, P: c.Tok, Void: c.Unknown})
}

func (m *Multi) answer(s *MultiState, a int) {
	c := &s.Members[a]
	out, rep := c.Out, c.Rep
	c.forget()
	switch rep.Code {
	case codeNoLease, codeRefused:
		s.finish(a)
		return
	case codeLineChanged:
		out.P, out.H = rep.P, rep.H
		m.send(s, a, releasing, out)
		return
	}
	switch out.Op {
	case opEnter, opLook, opClaim:
		m.answerWaiting(s, a, out.Op, rep)
	case opCancel, opVoid:
		m.answerEnding(s, a, out.Op, rep)
	default:
		s.finish(a)
	}
}

func (m *Multi) answerWaiting(s *MultiState, a int, o op, rep multiReply) {
	c := &s.Members[a]
	switch rep.Code {
	case codeGranted:
		m.own(s, a, rep.P)
	case codeNotOwner: // taken without a reply, and broken since: Void finds what is left
		c.Unknown, c.Cancel = true, true
		m.giveUp(s, a)
	case codeGone:
		if m.cfg.Defect == GoneLeavesOtherTickets {
			m.giveUp(s, a)
			return
		}
		m.withdraw(s, a)
	default:
		c.Phase = waiting
		if o == opEnter {
			c.LookDue = true
			return
		}
		if rep.Code == codeMayClaim {
			m.send(s, a, claiming, multiRequest{Op: opClaim, P: rep.P})
		}
	}
}

func (m *Multi) answerEnding(s *MultiState, a int, o op, rep multiReply) {
	c := &s.Members[a]
	if o == opVoid {
		c.Unknown = false
	}
	switch rep.Code {
	case codeGranted:
		c.Cancel = true
		m.own(s, a, rep.P)
	case codeWait:
		m.withdraw(s, a)
	case codeDone:
		s.finish(a)
	default: // gone: the void record was not written with it
		m.giveUp(s, a)
	}
}

// heard acts upon the own tickets' event: only a single name is ever handed over.
func (m *Multi) heard(s *MultiState, a int) bool {
	c := &s.Members[a]
	kind, tok := c.Heard, c.HeardM
	if c.Out.Op == opEnter {
		c.Unknown = true
	}
	// A claim that is abandoned may have taken everything: cancel finds that out.
	if !c.forget() {
		return false
	}
	if kind == heardGrant {
		m.own(s, a, tok)
		return true
	}
	c.Cancel = true
	if c.Unknown || m.cfg.Defect == GoneLeavesOtherTickets {
		m.giveUp(s, a)
		return true
	}
	m.withdraw(s, a)
	return true
}
