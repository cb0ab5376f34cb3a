package model

import "github.com/conclavehq/conclave/internal/waitqueue/model"

// The actions, as the argument of a step. The actor of the last two is a session.
const (
	actArrive int8 = iota
	actApply
	actApplyLate
	actLoseLate
	actAnswer
	actHear
	actLook
	actLookForLost
	actLeave
	actLookForOver
	actSessionOver
	actLoseReply
	actCancel
	actLoseWatch
	actDropTicket
	actExpire
	actExpireCrashed
	actCrash
)

// stepper emits the successors of one state.
type stepper struct {
	m    *Meeting
	from *State
	emit func(model.Step, *State)
}

func (p *stepper) do(actor int, act int8, fault bool, f func(s *State) bool) {
	p.m.scratch = *p.from
	if f(&p.m.scratch) {
		p.emit(model.Step{Actor: int8(actor), Arg: act, Fault: fault}, &p.m.scratch)
	}
}

// Start implements [model.Model].
func (m *Meeting) Start() State { return State{Faults: m.cfg.Faults} }

// Next implements [model.Model].
func (m *Meeting) Next(s *State, emit func(model.Step, *State)) {
	p := &stepper{m, s, emit}
	for a := range m.cfg.Arrivals {
		p.wire(a)
		if ph := s.Arr[a].Phase; ph != done && ph != crashed {
			p.client(a)
			p.looks(a)
			p.trouble(a)
		}
	}
	for i := range s.Dead {
		p.lease(i)
	}
}

// wire applies requests and delivers replies.
func (p *stepper) wire(a int) {
	c := &p.from.Arr[a]
	if c.Sent && !c.Applied {
		p.do(a, actApply, false, func(s *State) bool {
			c := &s.Arr[a]
			c.Rep, c.Applied = p.m.apply(s, a, &c.Req), true
			return true
		})
	}
	if c.Sent && c.Applied {
		p.do(a, actAnswer, false, func(s *State) bool {
			p.m.answer(s, a)
			return true
		})
	}
	for k, r := range c.Late {
		if r.Op == opNone {
			continue
		}
		p.do(a, actApplyLate, false, func(s *State) bool {
			s.Arr[a].Late[k] = request{}
			p.m.apply(s, a, &r)
			return true
		})
		p.do(a, actLoseLate, false, func(s *State) bool {
			s.Arr[a].Late[k] = request{}
			return true
		})
	}
}

// client is what an arrival does by itself.
func (p *stepper) client(a int) {
	c := &p.from.Arr[a]
	after := p.m.cfg.Arrivals[a].After
	if c.Phase == idle && !p.from.Dead[p.m.session(a)] && (after == 0 || p.from.Arr[after-1].Phase == done) {
		p.do(a, actArrive, false, func(s *State) bool {
			p.m.arrive(s, a)
			return true
		})
	}
	if (c.Phase == waiting || c.Phase == parting) && c.V < p.from.Ver {
		p.do(a, actHear, false, func(s *State) bool {
			p.m.hear(s, a, s.Arr[a].V+1)
			return true
		})
	}
	if c.Phase == inside {
		p.do(a, actLeave, false, func(s *State) bool {
			c := &s.Arr[a]
			p.m.send(s, a, leaving, request{Op: opLeave, V: c.V, G: c.G})
			return true
		})
	}
	if p.from.Dead[p.m.session(a)] {
		p.do(a, actSessionOver, false, func(s *State) bool {
			ok := s.Arr[a].forget()
			s.finish(a, outExpired)
			return ok
		})
	}
}

// looks are what a member finds out that nobody announced. They are steps only
// where they find something.
func (p *stepper) looks(a int) {
	m, c := p.m, &p.from.Arr[a]
	if c.Phase == waiting && !p.from.stands(a, c.G) && !m.defect(NobodyLooksForItself) {
		p.do(a, actLook, false, func(s *State) bool {
			c := &s.Arr[a]
			c.V = s.Ver
			if !m.outside(s, a, waiting, reply{}) {
				m.gone(s, a)
			}
			return true
		})
	}
	// A look sees that all are here, too. Only where a hand in the keys made a late
	// request matter that nothing else would notice is it needed for that, and only
	// there it is a step: elsewhere it would hide who is to write the mark.
	if c.Phase == waiting && p.from.dropped() && p.from.stands(a, c.G) && c.G == p.from.G && !p.from.Inside &&
		size(p.from.standing(c.G)) >= m.cfg.Parties {
		p.do(a, actLook, false, func(s *State) bool {
			c := &s.Arr[a]
			c.V = s.Ver
			m.send(s, a, readying, request{Op: opReady, V: c.V, G: c.G, R: s.Rev, List: m.oldest(s, c.G)})
			return true
		})
	}
	if c.Phase == waiting && m.breaks() && p.from.stands(a, c.G) && c.G == p.from.G && !p.from.Inside {
		if x := m.lost(p.from, a); x >= 0 {
			p.do(a, actLookForLost, false, func(s *State) bool {
				c := &s.Arr[a]
				c.V = s.Ver
				m.send(s, a, breaking, request{Op: opBreak, V: c.V, G: c.G, X: int8(x + 1), C: s.Party[x].C})
				return true
			})
		}
	}
	if c.Phase == parting && p.from.Inside && p.from.G == c.G && !m.defect(NobodyLooksForOver) &&
		(p.from.standing(c.G) == 0 || m.defect(OverIgnoresTickets)) {
		p.do(a, actLookForOver, false, func(s *State) bool {
			c := &s.Arr[a]
			c.V = s.Ver
			m.send(s, a, overing, request{Op: opOver, V: c.V, G: c.G})
			return true
		})
	}
}

// dropped tells whether a ticket was deleted by hand.
func (s *State) dropped() bool {
	for a := range s.Arr {
		if s.Arr[a].Dropped {
			return true
		}
	}
	return false
}

// trouble are the faults of one arrival.
func (p *stepper) trouble(a int) {
	c, left := &p.from.Arr[a], p.from.Faults
	if left.LoseReply > 0 && c.Sent {
		p.do(a, actLoseReply, true, func(s *State) bool {
			s.Faults.LoseReply--
			c := &s.Arr[a]
			ph, r := c.Phase, c.Req
			ok := c.forget()
			p.m.send(s, a, ph, r)
			return ok
		})
	}
	if left.Cancel > 0 && !c.Gone && (c.Phase == joining || c.Phase == readying || c.Phase == waiting || c.Phase == breaking) {
		p.do(a, actCancel, true, func(s *State) bool {
			s.Faults.Cancel--
			c := &s.Arr[a]
			c.Gone = true
			ok := c.forget()
			p.m.quit(s, a)
			return ok
		})
	}
	if left.LoseWatch > 0 && (c.Phase == waiting || c.Phase == parting) && c.V < p.from.Ver {
		p.do(a, actLoseWatch, true, func(s *State) bool {
			s.Faults.LoseWatch--
			p.m.hear(s, a, s.Ver)
			return true
		})
	}
	if left.DropTicket > 0 && p.from.Ticket[a].C > 0 {
		p.do(a, actDropTicket, true, func(s *State) bool {
			s.Faults.DropTicket--
			s.Rev++
			s.Ticket[a] = struct{ C, G int8 }{}
			s.Arr[a].Dropped = true
			return true
		})
	}
}

// lease ends leases and processes.
func (p *stepper) lease(i int) {
	known := false
	for a := range p.m.cfg.Arrivals {
		known = known || p.m.session(a) == i
	}
	if !known || p.from.Dead[i] {
		return
	}
	if p.from.Crash[i] || p.from.Faults.Expire > 0 {
		act := actExpire
		if p.from.Crash[i] {
			act = actExpireCrashed
		}
		p.do(i, act, !p.from.Crash[i], func(s *State) bool {
			if act == actExpire {
				s.Faults.Expire--
			}
			s.Dead[i] = true
			s.Rev++
			for a := range p.m.cfg.Arrivals {
				if p.m.session(a) == i {
					s.Ticket[a], s.Void[a] = struct{ C, G int8 }{}, false
				}
			}
			return true
		})
	}
	if p.from.Faults.Crash > 0 && !p.from.Crash[i] {
		p.do(i, actCrash, true, func(s *State) bool {
			s.Faults.Crash--
			s.Crash[i] = true
			ok := true
			for a := range p.m.cfg.Arrivals {
				c := &s.Arr[a]
				if p.m.session(a) != i || c.Phase == done {
					continue
				}
				ok = c.forget() && ok
				*c = arrival{Phase: crashed, Out: c.Out, G: c.G, Late: c.Late, Dropped: c.Dropped}
			}
			return ok
		})
	}
}
