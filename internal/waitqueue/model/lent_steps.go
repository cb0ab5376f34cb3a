package model

// What a step of [Lent] does beside those of [Line].
const (
	actReleaseAt action = iota + 64
	actKill
	actClaim
)

// lentStepper emits the successors of one state.
type lentStepper struct {
	m    *Lent
	from *LentState
	emit func(Step, *LentState)
}

func (p *lentStepper) do(st Step, f func(s *LentState) bool) {
	p.m.scratch = *p.from
	if f(&p.m.scratch) {
		p.emit(st, &p.m.scratch)
	}
}

// Next implements [Model].
func (m *Lent) Next(s *LentState, emit func(Step, *LentState)) {
	p := &lentStepper{m, s, emit}
	for k := range m.cfg.Calls {
		p.wire(k)
		if ph := s.Calls[k].Phase; ph == done || ph == crashed {
			continue
		}
		p.client(k)
		p.owner(k)
		p.trouble(k)
	}
	for h := int8(1); h <= maxHosts; h++ {
		p.kill(h)
	}
	if s.Left.Expire > 0 && !s.Dead {
		p.do(Step{Act: actExpire, Fault: true}, func(s *LentState) bool {
			s.Left.Expire--
			m.expire(s)
			return true
		})
	}
}

// wire applies requests and delivers replies.
func (p *lentStepper) wire(k int) {
	c := &p.from.Calls[k]
	if c.Sent && !c.Applied {
		p.do(Step{Actor: int8(k), Act: actApply, Arg: int8(c.Out.Op)}, func(s *LentState) bool {
			c := &s.Calls[k]
			c.Rep, c.Applied = p.m.serve(s, k, &c.Out), true
			return true
		})
	}
	if c.Sent && c.Applied {
		p.do(Step{Actor: int8(k), Act: actAnswer, Arg: int8(c.Out.Op)}, func(s *LentState) bool {
			if s.Calls[k].Rep.Code == codeNoLease {
				s.finish(k, done)
				return true
			}
			p.m.answer(s, k)
			return true
		})
	}
	for i := range c.Late {
		if c.Late[i].Op == opNone {
			continue
		}
		p.do(Step{Actor: int8(k), Act: actApplyLate, Arg: int8(c.Late[i].Op)}, func(s *LentState) bool {
			r := s.Calls[k].Late[i]
			s.Calls[k].Late[i] = lentRequest{}
			p.m.serve(s, k, &r)
			return true
		})
		p.do(Step{Actor: int8(k), Act: actLoseLate, Arg: int8(c.Late[i].Op)}, func(s *LentState) bool {
			s.Calls[k].Late[i] = lentRequest{}
			return true
		})
	}
}

// serve applies a request, or refuses it because its lease is gone.
func (m *Lent) serve(s *LentState, k int, r *lentRequest) lentReply {
	if s.Dead && m.host(k) > 0 {
		return lentReply{Code: codeNoLease}
	}
	return m.apply(s, r)
}

// over tells whether a call has come to an end, or never will begin.
func (p *lentStepper) over(k int) bool {
	ph := p.from.Calls[k].Phase
	return ph == done || ph == crashed || ph == idle && p.from.Hosts[p.m.host(k)].Dead
}

// mayBegin tells whether nothing holds a call back: a host makes one call of a
// session for a name after the other.
func (p *lentStepper) mayBegin(k int) bool {
	h := p.m.host(k)
	if p.from.Hosts[h].Dead || h > 0 && p.from.Dead {
		return false
	}
	for b := range p.m.cfg.Calls {
		if b == k || h == 0 || p.m.host(b) == 0 {
			continue
		}
		ph := p.from.Calls[b].Phase
		if p.m.cfg.Calls[k].Last && !p.over(b) ||
			p.m.host(b) == h && ph != idle && ph != owning && ph != releasing && ph != done && ph != crashed {
			return false
		}
	}
	return true
}

// client begins a call and reacts to events.
func (p *lentStepper) client(k int) {
	m, c := p.m, &p.from.Calls[k]
	switch {
	case c.Phase == idle && p.mayBegin(k):
		p.do(Step{Actor: int8(k), Act: actArrive}, func(s *LentState) bool {
			m.begin(s, k, 0)
			return true
		})
	case c.Phase != idle && p.from.Dead && m.host(k) > 0, c.Phase == idle && p.from.Dead && m.host(k) > 0:
		p.do(Step{Actor: int8(k), Act: actSessionOver}, func(s *LentState) bool {
			s.finish(k, done)
			return true
		})
	}
	if c.Watches && c.Heard != heardNothing && (c.Phase == waiting || c.Phase == entering) {
		p.do(Step{Actor: int8(k), Act: actHear, Arg: int8(c.Heard)}, func(s *LentState) bool {
			c := &s.Calls[k]
			if !c.forget() {
				return false
			}
			if c.Heard == heardGrant {
				m.owns(s, k, c.HeardM)
				return true
			}
			m.gone(s, k)
			return true
		})
	}
	if c.Phase == waiting && p.from.Grant.A == 0 && p.from.firstInLine() == c.ID {
		p.do(Step{Actor: int8(k), Act: actClaim}, func(s *LentState) bool {
			m.send(s, k, claiming, lentRequest{Op: opClaim, ID: s.Calls[k].ID, P: s.Calls[k].C})
			return true
		})
	}
}

// owner lets go: at its own host, which remembers the acquisition, or at any by
// the token alone.
func (p *lentStepper) owner(k int) {
	m, c := p.m, &p.from.Calls[k]
	if c.Phase != owning {
		return
	}
	if h := m.host(k); !p.from.Hosts[h].Dead {
		p.do(Step{Actor: int8(k), Act: actRelease}, func(s *LentState) bool {
			c := &s.Calls[k]
			c.Via = h
			m.send(s, k, releasing, lentRequest{Op: opPass, ID: c.ID, P: c.Tok, Unknown: c.Unknown})
			return true
		})
	}
	for h := int8(1); h <= maxHosts; h++ {
		if m.host(k) == 0 || !m.serves(h) || p.from.Hosts[h].Dead {
			continue
		}
		p.do(Step{Actor: int8(k), Act: actReleaseAt, Arg: h}, func(s *LentState) bool {
			c := &s.Calls[k]
			if s.Grant.A != c.ID || s.Grant.M != c.Tok { // it is told that it does not own the name
				s.finish(k, done)
				return true
			}
			v := &s.Hosts[h]
			same := m.host(callOf(c.ID)) == h
			c.Via = h
			m.send(s, k, releasing, lentRequest{Op: opPass, ID: c.ID, P: c.Tok, Move: same || !v.Mine || v.Rev != s.Home})
			return true
		})
	}
}

// serves tells whether the configuration has a host.
func (m *Lent) serves(h int8) bool {
	for k := range m.cfg.Calls {
		if m.host(k) == h {
			return true
		}
	}
	return false
}

// trouble emits what may go wrong for one call.
func (p *lentStepper) trouble(k int) {
	m, c := p.m, &p.from.Calls[k]
	if c.Sent && p.from.Left.LoseReply > 0 {
		p.do(Step{Actor: int8(k), Act: actLoseReply, Arg: int8(c.Out.Op), Fault: true}, func(s *LentState) bool {
			s.Left.LoseReply--
			return m.loseReply(s, k)
		})
	}
	if p.from.Left.Cancel > 0 && !c.Cancel && !m.cfg.Calls[k].Last {
		switch c.Phase {
		case trying, entering, waiting, claiming, adopting, asking, moving:
			p.do(Step{Actor: int8(k), Act: actCancel, Fault: true}, func(s *LentState) bool {
				s.Left.Cancel--
				return m.abandon(s, k)
			})
		}
	}
}

// loseReply gives the transaction under way up without knowing whether it was applied.
func (m *Lent) loseReply(s *LentState, k int) bool {
	c := &s.Calls[k]
	out := c.Out
	if !c.forget() {
		return false
	}
	switch out.Op {
	case opTry:
		c.Unknown = true
		if m.cfg.Calls[k].Try {
			m.giveUp(s, k)
			return true
		}
		c.Watches = true
		m.send(s, k, entering, lentRequest{Op: opEnter, ID: c.ID})
	case opEnter:
		c.Unknown = true
		m.send(s, k, entering, out)
	case opClaim:
		c.Phase = waiting
	default:
		m.send(s, k, c.Phase, out)
	}
	return true
}

// abandon is a caller that stops waiting.
func (m *Lent) abandon(s *LentState, k int) bool {
	c := &s.Calls[k]
	c.Cancel = true
	out := c.Out
	if out.Op == opTakeUp {
		return true // what is taken up has to be given up again
	}
	if out.Op == opTry || out.Op == opEnter {
		c.Unknown = true
	}
	if !c.forget() {
		return false
	}
	switch {
	case c.Unknown, out.Op == opTry, out.Op == opAsk, out.Op == opHome:
		m.giveUp(s, k)
	default:
		c.Watches, c.Heard, c.HeardM = false, heardNothing, 0
		m.send(s, k, cancelling, lentRequest{Op: opCancel, ID: c.ID, P: c.C, Void: c.Adopted})
	}
	return true
}

// kill ends a host, but for the one that serves the last call.
func (p *lentStepper) kill(h int8) {
	if p.from.Left.Kill == 0 || p.from.Hosts[h].Dead || !p.m.serves(h) {
		return
	}
	for k, q := range p.m.cfg.Calls {
		if q.Last && p.m.host(k) == h {
			return
		}
	}
	p.do(Step{Actor: h, Act: actKill, Fault: true}, func(s *LentState) bool {
		s.Left.Kill--
		s.Hosts[h].Dead = true
		ok := true
		for k := range p.m.cfg.Calls {
			c := &s.Calls[k]
			switch {
			case c.Phase == releasing && c.Via == h: // the client goes to another host
				ok = c.forget() && ok
				c.Phase, c.Via = owning, 0
			case p.m.host(k) != h, c.Phase == idle, c.Phase == owning, c.Phase == releasing, c.Phase == done, c.Phase == crashed:
			default:
				ok = c.forget() && ok
				s.finish(k, crashed)
			}
		}
		return ok
	})
}
