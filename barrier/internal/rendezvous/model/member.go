package model

// verdict is what a member concludes from the state key about its generation.
type verdict int8

const (
	gathers verdict = iota
	entered
	oneTooMany
	broken
	over // without a word about it: it never came to be
)

// judge says what the state key of version v tells a about generation g.
func (m *Meeting) judge(s *State, a int, g, v int8) verdict {
	gen := &s.Gens[g]
	switch {
	case gen.Ready > 0 && gen.Ready <= v && (m.listed(s, a, gen) || m.defect(ExtraEnters)):
		return entered
	case gen.Ready > 0 && gen.Ready <= v:
		return oneTooMany
	case gen.Lost > 0 && gen.End <= v:
		return broken
	}
	return gathers
}

// listed tells whether a is a member. Without a list it would have to know its
// ticket, of which a lost reply tells nothing.
func (m *Meeting) listed(s *State, a int, gen *generation) bool {
	return has(gen.Mem, a) && !(m.defect(ListIsNotKept) && s.Arr[a].Unknown)
}

func (m *Meeting) send(s *State, a int, p phase, r request) {
	c := &s.Arr[a]
	c.Phase, c.Req, c.Sent, c.Applied, c.Rep = p, r, true, false, reply{}
}

// forget gives up the request under way; it may be applied late.
func (c *arrival) forget() bool {
	if c.Sent && !c.Applied {
		k := 0
		for k < maxLate && c.Late[k].Op != opNone {
			k++
		}
		if k == maxLate {
			return false // one more than the configuration can hold
		}
		c.Late[k] = c.Req
	}
	c.Unknown = c.Unknown || c.Sent && c.Req.Op == opJoin
	c.Req, c.Sent, c.Applied, c.Rep = request{}, false, false, reply{}
	return true
}

func (s *State) finish(a int, out outcome) {
	c := &s.Arr[a]
	if c.Out == outNone {
		c.Out = out
	}
	c.Phase = done
}

// arrive reads the state and acts on it.
func (m *Meeting) arrive(s *State, a int) {
	c := &s.Arr[a]
	c.V, c.G = s.Ver, s.G
	switch {
	case c.Gone:
		s.finish(a, outCancelled)
	case s.G > maxGens:
		s.finish(a, outMany)
	case s.Ver == 0:
		m.send(s, a, beginning, request{Op: opBegin, V: c.V})
	case s.Inside && s.standing(s.G) == 0:
		m.send(s, a, beginning, request{Op: opOver, V: c.V, G: c.G})
	case s.Inside:
		s.finish(a, outFull)
	default:
		m.send(s, a, joining, request{Op: opJoin, V: c.V, G: c.G})
	}
}

// quit takes the ticket back.
func (m *Meeting) quit(s *State, a int) {
	c := &s.Arr[a]
	void := c.Unknown && !m.defect(CancelKeepsNoVoid)
	m.send(s, a, cancelling, request{Op: opCancel, V: c.V, G: c.G, Void: void})
}

// gone ends an arrival that finds its ticket gone: by its lease, or by a hand.
// Then a Join that is under way must not put it again.
func (m *Meeting) gone(s *State, a int) {
	c := &s.Arr[a]
	switch {
	case s.Dead[m.session(a)]:
		s.finish(a, outExpired)
	case c.Unknown && !m.defect(DeletedKeepsNoVoid):
		c.Deleted = true
		m.quit(s, a)
	default:
		s.finish(a, outDeleted)
	}
}

// why is the outcome of an arrival that did not come to be.
func (c *arrival) why(otherwise outcome) outcome {
	switch {
	case c.Deleted:
		return outDeleted
	case c.Gone:
		return outCancelled
	}
	return otherwise
}

// answer acts on a reply.
func (m *Meeting) answer(s *State, a int) {
	c := &s.Arr[a]
	p, rep := c.Phase, c.Rep
	c.Req, c.Sent, c.Applied, c.Rep = request{}, false, false, reply{}
	c.V = max(c.V, rep.V)
	switch {
	case rep.NoLease && p != inside && p != leaving:
		s.finish(a, outExpired)
	case p == beginning:
		m.arrive(s, a)
	case p == leaving && rep.OK:
		c.Parted = true
		s.finish(a, outNone)
	case p == leaving || p == overing:
		c.Phase = parting
		m.part(s, a)
	case p == withdrawing:
		s.finish(a, c.why(outFull))
	case p == cancelling && (rep.OK || m.defect(CancelIgnoresReady)):
		s.finish(a, c.why(outCancelled))
	default:
		m.conclude(s, a, p, rep)
	}
}

// conclude goes on with a member that is not in yet.
func (m *Meeting) conclude(s *State, a int, p phase, rep reply) {
	c := &s.Arr[a]
	if m.outside(s, a, p, rep) {
		return
	}
	switch {
	case p == cancelling: // its earlier copy did it
		s.finish(a, c.why(outCancelled))
	case !rep.Mine && p == joining:
		m.arrive(s, a)
	case !rep.Mine && p == readying:
		m.gone(s, a)
	case p == readying && m.defect(ReadyReplyIsFinal), p == breaking:
		c.Phase = waiting
	case size(rep.List) == m.cfg.Parties && (has(rep.List, a) || !m.defect(ExtraDoesNotHelp)):
		m.send(s, a, readying, request{Op: opReady, V: c.V, G: c.G, R: rep.R, List: rep.List})
	default:
		c.Phase = waiting
	}
}

// outside acts on a generation that does not gather any more, and reports whether
// that is so.
func (m *Meeting) outside(s *State, a int, p phase, rep reply) bool {
	c := &s.Arr[a]
	switch m.judge(s, a, c.G, c.V) {
	case entered:
		c.Out, c.Phase = outEntered, inside
		if m.cfg.Cyclic {
			c.Phase = done
		}
	case oneTooMany:
		switch {
		case m.cfg.Cyclic:
			c.Unknown = false // whatever is under way names a version that is past
			m.arrive(s, a)
		case s.stands(a, c.G) || rep.Mine: // or it may: the request finds out
			m.send(s, a, withdrawing, request{Op: opLeave, V: c.V, G: c.G})
		default:
			s.finish(a, c.why(outFull))
		}
	case broken:
		if p == joining && !c.Unknown && !rep.Mine {
			m.arrive(s, a)
		} else {
			s.finish(a, c.why(outBroken))
		}
	default:
		return false
	}
	return true
}

// part ends a Leave if everybody is out.
func (m *Meeting) part(s *State, a int) {
	c := &s.Arr[a]
	if e := s.Gens[c.G].End; e > 0 && e <= c.V {
		c.Parted = true
		s.finish(a, outNone)
	}
}

// hear acts on the state key's next value.
func (m *Meeting) hear(s *State, a int, v int8) {
	c := &s.Arr[a]
	c.V = v
	if c.Phase == parting {
		m.part(s, a)
		return
	}
	m.outside(s, a, waiting, reply{})
}

// lost returns the arrival whose loss a notices, or -1: it looks at the party
// before its own, and the first looks at the last.
func (m *Meeting) lost(s *State, a int) int {
	g, before, last := s.Arr[a].G, -1, -1
	for b := range s.Party {
		c := s.Party[b].C
		if b == a || c == 0 || s.Party[b].G != g {
			continue
		}
		if c < s.Ticket[a].C && (before < 0 || c > s.Party[before].C) {
			before = b
		}
		if last < 0 || c > s.Party[last].C {
			last = b
		}
	}
	if before < 0 && !m.defect(FirstLooksAtNobody) {
		before = last
	}
	if before < 0 || s.stands(before, g) && !m.defect(BreakIgnoresTicket) {
		return -1
	}
	return before
}
