package model

// harm is what a single transaction must never do. The store records it at the moment of the effect.
type harm int8

const (
	harmless harm = iota
	harmFinished
	harmDeadLease
	harmOvertakes
	harmBeside
	harmTooMany
	harmToken
	harmShadow
)

// Watched keys. A waiter watches at most one.
const (
	blockNone   int8 = 0
	blockTicket int8 = 10 // + acquisition: DELETE
	blockLeaves int8 = 20 // + acquisition: DELETE, or PUT (granted)
	blockReader int8 = 30 // + acquisition: DELETE of its key in read/
	blockGrant  int8 = 40 // DELETE
	blockHolds  int8 = 41 // any DELETE under hold/
	blockShadow int8 = 42 // DELETE
)

// happen delivers the event of a key to everybody who watches it, and to those whose look is answered but not
// yet read: their watch will start at the look's revision + 1.
func (s *State) happen(key int8) {
	for a := range s.Acq {
		if s.Acq[a].Blocker == key {
			s.Acq[a].Unblock = true
		}
	}
}

func (s *State) hear(a int, n announcement) {
	c := &s.Acq[a]
	if c.Watches && c.Heard.Kind == heardNothing {
		c.Heard = n
	}
}

func (s *State) deleteTicket(a int) {
	if s.Tickets[a].C == 0 {
		return
	}
	s.Tickets[a] = ticket{}
	s.hear(a, announcement{Kind: heardDelete})
	s.happen(blockTicket + int8(a))
	s.happen(blockLeaves + int8(a))
}

func (s *State) deleteGrant() {
	if s.Grant.A == 0 {
		return
	}
	s.Grant.A, s.Grant.M = 0, 0
	s.happen(blockGrant)
}

func (m *Line) deleteHold(s *State, a int) {
	if s.Holds[a].M == 0 {
		return
	}
	s.Holds[a] = holding{}
	if m.holdsAs(a) == Reader {
		s.happen(blockReader + int8(a))
		return
	}
	if !m.defect(PermitsIgnoreHoldEvents) {
		s.happen(blockHolds)
	}
}

// grantTo gives the name, or a share of it, to a. It is where a transaction could do harm, so it looks.
func (m *Line) grantTo(s *State, a int, rev, index int8) {
	if !s.Acq[a].Lowered { // a downgrade keeps the place that the writer had
		m.inspect(s, a, rev)
		m.inspectOrder(s, a)
	}
	m.give(s, a, rev, index)
}

// give puts the grant.
func (m *Line) give(s *State, a int, rev, index int8) {
	if m.kind(a) == Writer && !s.Acq[a].Lowered {
		s.Grant.A, s.Grant.M = int8(a+1), rev
		if m.cfg.Acquirers[a].Delays {
			s.Shadow = int8(a + 1)
		}
	} else {
		s.Holds[a] = holding{rev, index}
	}
	switch {
	case m.kind(a) == Permits && m.permits(s) > s.Limit.N:
		s.Harm = harmTooMany
	case s.Grant.A > 0 && m.held(s, Reader, -1):
		s.Harm = harmBeside
	}
}

// deleteShadow removes a's shadow, if it is a's.
func (m *Line) deleteShadow(s *State, a int) {
	if s.Shadow == int8(a+1) {
		s.Shadow = 0
		if !m.defect(ShadowNotWatched) {
			s.happen(blockShadow)
		}
	}
}

func (m *Line) inspect(s *State, a int, rev int8) {
	switch {
	case s.Acq[a].Phase == done:
		s.Harm = harmFinished
	case s.Dead[m.session(a)]:
		s.Harm = harmDeadLease
	case s.Grant.M >= rev:
		s.Harm = harmToken
	case s.Shadow > 0 && s.Dead[m.session(int(s.Shadow-1))]:
		s.Harm = harmShadow
	}
	for b := range m.cfg.Acquirers {
		if s.Holds[b].M > rev {
			s.Harm = harmToken
		}
	}
}

// inspectOrder looks whether a grant to a passes over somebody.
func (m *Line) inspectOrder(s *State, a int) {
	for b := range m.cfg.Acquirers {
		if b == a || !s.waits(b) || !m.overtaken(s, b, a) {
			continue
		}
		if m.kind(a) == Reader && m.kind(b) == Reader {
			continue // readers stand beside each other in any order
		}
		s.Harm = harmOvertakes
	}
}

// overtaken says whether a grant to a passes over b, who waits.
func (m *Line) overtaken(s *State, b, a int) bool {
	if s.Tickets[a].C == 0 {
		return true // who has no ticket comes after everybody
	}
	return m.ahead(s, b, a)
}

// mark puts the ticket a second time: granted.
func (m *Line) mark(s *State, a int, rev, index int8, h hints) {
	if m.defect(DeleteMeansGranted) {
		s.deleteTicket(a)
		return
	}
	t := &s.Tickets[a]
	t.Granted, t.M, t.X, t.H = true, rev, index, h
	s.hear(a, announcement{Kind: heardGrant, M: rev, X: index, H: h})
	if !m.defect(PermitsIgnorePredecessorsGrant) {
		s.happen(blockLeaves + int8(a))
	}
}

// void writes a's void record.
func (m *Line) void(s *State, a int) {
	if !m.defect(NoVoidRecord) {
		s.Voids[a] = true
	}
}

// expire ends a lease: all its keys go in one revision.
func (m *Line) expire(s *State, session int) {
	s.Dead[session] = true
	s.Rev++
	for a := range m.cfg.Acquirers {
		if m.session(a) != session {
			continue
		}
		if s.Grant.A == int8(a+1) {
			s.deleteGrant()
		}
		m.deleteHold(s, a)
		s.deleteTicket(a)
		s.Voids[a] = false
	}
}
