package model

// trouble emits what may go wrong for one acquisition, as long as its budget lasts.
func (p *stepper) trouble(a int) {
	m, c := p.m, &p.from.Acq[a]
	if c.Sent && p.from.Left.LoseReply > 0 {
		p.do(Step{Actor: int8(a), Act: actLoseReply, Arg: int8(c.Out.Op), Fault: true}, func(s *State) bool {
			s.Left.LoseReply--
			return m.loseReply(s, a)
		})
	}
	if p.from.Left.Cancel > 0 && !c.Cancel && c.Phase.cancellable() {
		p.do(Step{Actor: int8(a), Act: actCancel, Fault: true}, func(s *State) bool {
			s.Left.Cancel--
			return m.abandon(s, a)
		})
	}
	if c.Phase == releasing && p.from.Left.GiveUpPass > 0 {
		p.do(Step{Actor: int8(a), Act: actGiveUpPass, Fault: true}, func(s *State) bool {
			s.Left.GiveUpPass--
			return m.giveUpPass(s, a)
		})
	}
	if c.Phase == waiting && p.from.Left.LoseWatch > 0 {
		p.do(Step{Actor: int8(a), Act: actLoseWatch, Fault: true}, func(s *State) bool {
			s.Left.LoseWatch--
			c := &s.Acq[a]
			c.unwatch()
			c.Watches, c.Blind = !m.defect(LookBeforeOwnWatch), true
			m.send(s, a, looking, request{Op: opLook})
			return true
		})
	}
}

func (p phase) cancellable() bool {
	switch p {
	case local, named, viewing, trying, entering, waiting, looking, claiming:
		return true
	}
	return false
}

// loseReply gives the transaction under way up without knowing whether it was applied.
func (m *Line) loseReply(s *State, a int) bool {
	c := &s.Acq[a]
	out := c.Out
	if !c.forget() {
		return false
	}
	switch out.Op {
	case opTry:
		c.Unknown = true
		if m.cfg.Acquirers[a].Try {
			m.giveUp(s, a)
			return true
		}
		m.queue(s, a, out.View)
	case opEnter:
		c.Unknown = true
		if m.kind(a) == Permits { // the retry is built on what is known by then
			m.send(s, a, viewing, request{Op: opView})
			return true
		}
		m.send(s, a, entering, out)
	case opLook, opClaim:
		c.Blocker, c.Unblock = blockNone, false
		m.send(s, a, looking, request{Op: opLook})
	default:
		m.send(s, a, c.Phase, out)
	}
	return true
}

// giveUpPass ends a release whose outcome stays unknown. The next of the local line starts for itself: the Pass may
// have put its keys, or may yet. What is left goes with the session, whose lease must end some day.
func (m *Line) giveUpPass(s *State, a int) bool {
	c := &s.Acq[a]
	next := int(c.Out.Next) - 1
	if !c.forget() {
		return false
	}
	s.Acq[a] = acquisition{Phase: crashed, Late: s.Acq[a].Late}
	s.Crashed[m.session(a)] = true
	if next < 0 || s.Acq[next].Phase != named {
		return true
	}
	n := &s.Acq[next]
	n.Unknown = true
	if n.Cancel {
		m.giveUp(s, next)
		return true
	}
	m.queue(s, next, view{})
	return true
}

// abandon is a caller that stops waiting: it has its answer at once, the rest happens behind it.
func (m *Line) abandon(s *State, a int) bool {
	c := &s.Acq[a]
	c.Cancel = true
	switch c.Phase {
	case local:
		s.finish(a)
		return true
	case named:
		if m.cfg.Impatient {
			c.unwatch()
			m.send(s, a, voiding, request{Op: opVoid})
		}
		return true // the Pass that names it tells what there is to give back
	case viewing:
		c.forget()
		m.giveUp(s, a)
		return true
	}
	if c.Out.Op == opTry || c.Out.Op == opEnter {
		c.Unknown = true
	}
	if !c.forget() {
		return false
	}
	c.unwatch()
	if c.Unknown {
		m.giveUp(s, a)
		return true
	}
	m.send(s, a, cancelling, request{Op: opCancel, P: c.C})
	return true
}

// lease ends leases and processes.
func (p *stepper) lease(i int) {
	m := p.m
	if i >= m.sessions() || p.from.Dead[i] {
		return
	}
	if p.from.Left.Expire > 0 || p.from.Crashed[i] {
		st := Step{Actor: int8(i), Act: actExpire, Fault: true}
		if p.from.Crashed[i] {
			st = Step{Actor: int8(i), Act: actExpireCrashed}
		}
		p.do(st, func(s *State) bool {
			if st.Fault {
				s.Left.Expire--
			}
			m.expire(s, i)
			return true
		})
	}
	if p.from.Left.Crash == 0 || p.from.Crashed[i] {
		return
	}
	p.do(Step{Actor: int8(i), Act: actCrash, Fault: true}, func(s *State) bool {
		s.Left.Crash--
		s.Crashed[i] = true
		ok := true
		for a := range m.cfg.Acquirers {
			c := &s.Acq[a]
			if m.session(a) != i || c.Phase == done {
				continue
			}
			ok = c.forget() && ok
			*c = acquisition{Phase: crashed, Late: c.Late}
		}
		return ok
	})
}

func (m *Line) sessions() int {
	n := 0
	for a := range m.cfg.Acquirers {
		n = max(n, m.session(a)+1)
	}
	return n
}

// operator deletes keys by hand, and forces owners out through the protocol.
func (p *stepper) operator() {
	m := p.m
	for a := range m.cfg.Acquirers {
		if p.from.Left.DropTicket > 0 && p.from.waits(a) {
			p.do(Step{Actor: int8(a), Act: actDropTicket, Fault: true}, func(s *State) bool {
				s.Left.DropTicket--
				s.Rev++
				s.deleteTicket(a)
				return true
			})
		}
		tok, holds := m.token(p.from, a)
		if !holds {
			continue
		}
		if p.from.Left.DropGrant > 0 {
			p.do(Step{Actor: int8(a), Act: actDropGrant, Fault: true}, func(s *State) bool {
				s.Left.DropGrant--
				s.Rev++
				s.Acq[a].Ended = true
				m.deleteHold(s, a)
				if s.Grant.A == int8(a+1) {
					s.deleteGrant()
				}
				return true
			})
		}
		if p.from.Left.Force > 0 && p.from.Op.Holder == 0 {
			p.do(Step{Actor: int8(a), Act: actReadForced, Fault: true}, func(s *State) bool {
				s.Left.Force--
				s.Op = operator{Holder: int8(a + 1), Tok: tok, H: m.firstWaiting(s, a)}
				return true
			})
		}
	}
	p.force()
	if a := int(p.from.Shadow) - 1; a >= 0 && p.from.Dead[m.session(a)] {
		p.do(Step{Actor: int8(a), Act: actDelayOver}, func(s *State) bool {
			s.Rev++
			m.deleteShadow(s, a)
			return true
		})
	}
}

// token returns what a holds.
func (m *Line) token(s *State, a int) (tok int8, holds bool) {
	if s.Grant.A == int8(a+1) {
		return s.Grant.M, true
	}
	return s.Holds[a].M, s.Holds[a].M > 0
}

// force is the operator's Pass, guarded by the token that it read.
func (p *stepper) force() {
	if p.from.Op.Holder == 0 {
		return
	}
	a := int(p.from.Op.Holder - 1)
	p.do(Step{Actor: int8(a), Act: actPassForced}, func(s *State) bool {
		o := s.Op
		s.Op = operator{}
		if !p.m.owns(s, a, o.Tok) {
			return true
		}
		rep := p.m.pass(s, a, &request{Op: opPass, P: o.Tok, H: o.H, Heir: o.Heir, Forced: true})
		if rep.Code == codeLineChanged {
			s.Op = operator{Holder: o.Holder, Tok: o.Tok, Heir: o.Heir, H: rep.H}
			return true
		}
		s.Acq[a].Ended = true
		return true
	})
}
