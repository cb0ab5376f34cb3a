package model

// multiStepper emits the successors of one state.
type multiStepper struct {
	m    *Multi
	from *MultiState
	emit func(Step, *MultiState)
}

func (p *multiStepper) do(st Step, f func(s *MultiState) bool) {
	p.m.scratch = *p.from
	if f(&p.m.scratch) {
		p.emit(st, &p.m.scratch)
	}
}

// Next implements [Model].
func (m *Multi) Next(s *MultiState, emit func(Step, *MultiState)) {
	p := &multiStepper{m, s, emit}
	for a := range m.cfg.Members {
		p.wire(a)
		p.trouble(a)
		if s.Members[a].Phase != done {
			p.client(a)
		}
	}
	p.operator()
}

func (p *multiStepper) wire(a int) {
	c := &p.from.Members[a]
	if c.Sent && !c.Applied {
		p.do(Step{Actor: int8(a), Act: actApply, Arg: int8(c.Out.Op)}, func(s *MultiState) bool {
			c := &s.Members[a]
			c.Rep = p.m.apply(s, a, &c.Out)
			c.Applied = true
			if c.Out.Op == opLook || c.Out.Op == opClaim {
				c.Blocker, c.Unblock = c.Rep.Blocker, false
			}
			return true
		})
	}
	if c.Sent && c.Applied {
		p.do(Step{Actor: int8(a), Act: actAnswer, Arg: int8(c.Out.Op)}, func(s *MultiState) bool {
			p.m.answer(s, a)
			return true
		})
	}
	for i := range c.Late {
		if c.Late[i].Op == opNone {
			continue
		}
		p.do(Step{Actor: int8(a), Act: actApplyLate, Arg: int8(c.Late[i].Op)}, func(s *MultiState) bool {
			r := s.Members[a].Late[i]
			s.Members[a].Late[i] = multiRequest{}
			p.m.apply(s, a, &r)
			return true
		})
		p.do(Step{Actor: int8(a), Act: actLoseLate, Arg: int8(c.Late[i].Op)}, func(s *MultiState) bool {
			s.Members[a].Late[i] = multiRequest{}
			return true
		})
	}
}

func (p *multiStepper) client(a int) {
	m, c := p.m, &p.from.Members[a]
	simple := func(act action, f func(s *MultiState)) {
		p.do(Step{Actor: int8(a), Act: act}, func(s *MultiState) bool {
			f(s)
			return true
		})
	}
	if p.from.Dead[a] {
		simple(actSessionOver, func(s *MultiState) { s.finish(a) })
	}
	if c.Phase == idle {
		simple(actArrive, func(s *MultiState) {
			s.Members[a].Watches = true
			m.send(s, a, entering, multiRequest{Op: opEnter})
		})
	}
	if c.Watches && c.Heard != heardNothing {
		p.do(Step{Actor: int8(a), Act: actHear, Arg: int8(c.Heard)}, func(s *MultiState) bool {
			return m.heard(s, a)
		})
	}
	look := func(s *MultiState) {
		c := &s.Members[a]
		c.LookDue, c.Blocker, c.Unblock = false, blockNone, false
		m.send(s, a, looking, multiRequest{Op: opLook})
	}
	if c.Phase == waiting && c.LookDue {
		simple(actLook, look)
	}
	if c.Phase == waiting && c.Unblock {
		simple(actUnblock, look)
	}
	if c.Phase == owning {
		simple(actRelease, func(s *MultiState) { m.release(s, a) })
	}
}

func (p *multiStepper) trouble(a int) {
	m, c := p.m, &p.from.Members[a]
	if p.from.Left.Expire > 0 && !p.from.Dead[a] {
		p.do(Step{Actor: int8(a), Act: actExpire, Fault: true}, func(s *MultiState) bool {
			s.Left.Expire--
			m.expire(s, a)
			return true
		})
	}
	if c.Sent && p.from.Left.LoseReply > 0 {
		p.do(Step{Actor: int8(a), Act: actLoseReply, Arg: int8(c.Out.Op), Fault: true}, func(s *MultiState) bool {
			s.Left.LoseReply--
			return m.loseReply(s, a)
		})
	}
	if p.from.Left.Cancel > 0 && !c.Cancel && c.Phase.cancellable() {
		p.do(Step{Actor: int8(a), Act: actCancel, Fault: true}, func(s *MultiState) bool {
			s.Left.Cancel--
			c := &s.Members[a]
			c.Cancel = true
			c.Unknown = c.Unknown || c.Out.Op == opEnter
			if !c.forget() {
				return false
			}
			if c.Unknown {
				m.giveUp(s, a)
				return true
			}
			m.withdraw(s, a)
			return true
		})
	}
}

func (m *Multi) loseReply(s *MultiState, a int) bool {
	c := &s.Members[a]
	out := c.Out
	if !c.forget() {
		return false
	}
	switch out.Op {
	case opEnter:
		c.Unknown = true
		m.send(s, a, entering, out)
	case opLook, opClaim:
		c.Blocker, c.Unblock = blockNone, false
		m.send(s, a, looking, multiRequest{Op: opLook})
	default:
		m.send(s, a, c.Phase, out)
	}
	return true
}

// operator deletes keys by hand, and forces owners out of one name through the protocol.
func (p *multiStepper) operator() {
	for a := range p.m.cfg.Members {
		for _, n := range p.m.names(a) {
			p.hand(a, n)
		}
	}
	if p.from.Force.A > 0 {
		st := Step{Actor: p.from.Force.A - 1, Act: actPassForced, Arg: p.from.Force.Name}
		p.do(st, func(s *MultiState) bool {
			p.m.passForced(s)
			return true
		})
	}
}

func (p *multiStepper) hand(a, n int) {
	m := p.m
	step := func(act action, f func(s *MultiState)) {
		p.do(Step{Actor: int8(a), Act: act, Arg: int8(n), Fault: true}, func(s *MultiState) bool {
			f(s)
			return true
		})
	}
	if p.from.Left.DropTicket > 0 && p.from.waits(a, n) {
		step(actDropTicket, func(s *MultiState) {
			s.Left.DropTicket--
			s.Rev++
			s.deleteTicket(a, n)
		})
	}
	if p.from.Grants[n].A != int8(a+1) {
		return
	}
	if p.from.Left.DropGrant > 0 {
		step(actDropGrant, func(s *MultiState) {
			s.Left.DropGrant--
			s.Rev++
			s.deleteGrant(n)
			s.Members[a].Ended, s.Members[a].ByHand = true, true
		})
	}
	if p.from.Left.Force > 0 && p.from.Force.A == 0 {
		step(actReadForced, func(s *MultiState) {
			s.Left.Force--
			s.Force.A, s.Force.Name, s.Force.Tok = int8(a+1), int8(n), s.Grants[n].M
			s.ForceH = m.first(s, n, a)
		})
	}
}
