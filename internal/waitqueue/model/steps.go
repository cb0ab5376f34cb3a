package model

// action is what a step does, see describe.go for its words.
type action int8

const (
	actArrive action = iota
	actLead
	actApply
	actApplyLate
	actLoseLate
	actAnswer
	actHear
	actLook
	actUnblock
	actRead
	actDowngrade
	actRelease
	actForcedOut
	actSessionOver
	actExpireCrashed
	actDelayOver
	actPassForced
	actReadForced
	actExpire
	actCrash
	actLoseReply
	actCancel
	actLoseWatch
	actDropTicket
	actDropGrant
	actGiveUpPass
	actTransfer
	actReadTransferred
)

// stepper emits the successors of one state.
type stepper struct {
	m    *Line
	from *State
	emit func(Step, *State)
}

// do emits what f makes of a copy of the state, unless f refuses.
func (p *stepper) do(st Step, f func(s *State) bool) {
	p.m.scratch = *p.from
	if f(&p.m.scratch) {
		p.emit(st, &p.m.scratch)
	}
}

// Next implements [Model].
func (m *Line) Next(s *State, emit func(Step, *State)) {
	p := &stepper{m, s, emit}
	for a := range m.cfg.Acquirers {
		p.wire(a)
		if s.Acq[a].Phase == done || s.Acq[a].Phase == crashed {
			continue
		}
		p.client(a)
		p.waiter(a)
		p.owner(a)
		p.transfers(a)
		p.trouble(a)
	}
	for i := range s.Dead {
		p.lease(i)
	}
	p.operator()
}

// wire applies requests and delivers replies.
func (p *stepper) wire(a int) {
	c := &p.from.Acq[a]
	if c.Sent && !c.Applied {
		p.do(Step{Actor: int8(a), Act: actApply, Arg: int8(c.Out.Op)}, func(s *State) bool {
			c := &s.Acq[a]
			c.Rep = p.m.apply(s, a, &c.Out)
			c.Applied = true
			p.m.watch(c)
			return true
		})
	}
	if c.Sent && c.Applied {
		p.do(Step{Actor: int8(a), Act: actAnswer, Arg: int8(c.Out.Op)}, func(s *State) bool {
			p.m.answer(s, a)
			return true
		})
	}
	for i := range c.Late {
		if c.Late[i].Op == opNone {
			continue
		}
		p.do(Step{Actor: int8(a), Act: actApplyLate, Arg: int8(c.Late[i].Op)}, func(s *State) bool {
			r := s.Acq[a].Late[i]
			s.Acq[a].Late[i] = request{}
			p.m.apply(s, a, &r)
			return true
		})
		p.do(Step{Actor: int8(a), Act: actLoseLate, Arg: int8(c.Late[i].Op)}, func(s *State) bool {
			s.Acq[a].Late[i] = request{}
			return true
		})
	}
}

// watch starts the blocker's watch at the revision of the look that chose it: at the moment it was applied.
func (m *Line) watch(c *acquisition) {
	if c.Rep.Code != codeWait && c.Rep.Code != codeMayClaim || c.Out.Op == opCancel || c.Out.Op == opVoid {
		return
	}
	if c.Out.Op == opEnter && !m.cfg.EarlyLook { // its reply says "in line" and no more
		c.Rep = reply{Code: codeWait, P: c.Rep.P}
		return
	}
	c.Blocker, c.Unblock = c.Rep.Blocker, false
}

// client starts an acquisition, and ends it with its session.
func (p *stepper) client(a int) {
	m, c := p.m, &p.from.Acq[a]
	if p.from.Dead[m.session(a)] {
		p.do(Step{Actor: int8(a), Act: actSessionOver}, func(s *State) bool {
			s.finish(a)
			return true
		})
	}
	after := m.cfg.Acquirers[a].After
	if c.Phase == idle && (after == 0 || p.from.Acq[after-1].Phase == done) {
		p.do(Step{Actor: int8(a), Act: actArrive}, func(s *State) bool {
			m.arrive(s, a)
			return true
		})
	}
	if c.Phase == local && !m.busy(p.from, a) {
		p.do(Step{Actor: int8(a), Act: actLead}, func(s *State) bool {
			m.begin(s, a)
			return true
		})
	}
}

// waiter reacts to the events of both watches, and looks at the line after a while.
func (p *stepper) waiter(a int) {
	m, c := p.m, &p.from.Acq[a]
	if c.Watches && c.Heard.Kind != heardNothing {
		p.do(Step{Actor: int8(a), Act: actHear, Arg: int8(c.Heard.Kind)}, func(s *State) bool {
			return m.heard(s, a)
		})
	}
	if c.Phase != waiting {
		return
	}
	look := func(act action) {
		p.do(Step{Actor: int8(a), Act: act}, func(s *State) bool {
			c := &s.Acq[a]
			c.LookDue, c.Blocker, c.Unblock = false, blockNone, false
			m.send(s, a, looking, request{Op: opLook})
			return true
		})
	}
	if c.LookDue && !m.defect(NoLook) {
		look(actLook)
	}
	if c.Unblock {
		look(actUnblock)
	}
}

// heard acts upon the own ticket's event, whatever reply is still awaited.
func (m *Line) heard(s *State, a int) bool {
	c := &s.Acq[a]
	n := c.Heard
	if c.Out.Op == opEnter {
		c.Unknown = true
	}
	if !c.forget() {
		return false
	}
	switch {
	case n.Kind == heardGrant:
		m.own(s, a, n.M, n.X, n.H)
	case m.defect(DeleteMeansGranted):
		m.own(s, a, s.Rev, 0, hints{})
	default:
		m.giveUp(s, a)
	}
	return true
}

// owner uses what it has and lets it go. It learns from its watch on the grant that it is no longer its own.
func (p *stepper) owner(a int) {
	m, c := p.m, &p.from.Acq[a]
	if c.Phase != owning {
		return
	}
	rest := m.cfg.Holds
	p.do(Step{Actor: int8(a), Act: actRelease, Fault: rest}, func(s *State) bool {
		m.release(s, a)
		return true
	})
	if m.cfg.Reads && c.H[0].A == 0 && m.anyWaits(p.from) {
		p.do(Step{Actor: int8(a), Act: actRead, Fault: true}, func(s *State) bool {
			s.Acq[a].H = m.firstWaiting(s, a)
			return true
		})
	}
	if m.cfg.Acquirers[a].Lowers && !c.Lowered {
		p.do(Step{Actor: int8(a), Act: actDowngrade, Fault: true}, func(s *State) bool {
			m.send(s, a, lowering, request{Op: opDowngrade, P: s.Acq[a].Tok, H: s.Acq[a].H})
			return true
		})
	}
	if !m.owns(p.from, a, c.Tok) && rest {
		p.do(Step{Actor: int8(a), Act: actForcedOut}, func(s *State) bool {
			m.release(s, a)
			return true
		})
	}
}
