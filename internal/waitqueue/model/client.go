package model

// send puts a transaction on its way.
func (m *Line) send(s *State, a int, p phase, r request) {
	c := &s.Acq[a]
	c.Phase, c.Out, c.Sent, c.Applied, c.Rep = p, r, true, false, reply{}
}

// forget drops the transaction under way from the client's side. Unless it was applied, or only reads, it may
// still be applied later. It returns false if the state has no room left for one more late request.
func (c *acquisition) forget() bool {
	ok := true
	if c.Sent && !c.Applied && c.Out.Op != opLook && c.Out.Op != opView {
		ok = false
		for i := range c.Late {
			if c.Late[i].Op == opNone || c.Late[i] == c.Out {
				c.Late[i], ok = c.Out, true
				break
			}
		}
	}
	c.Out, c.Sent, c.Applied, c.Rep = request{}, false, false, reply{}
	return ok
}

// unwatch closes both watches of a waiter.
func (c *acquisition) unwatch() {
	c.Watches, c.Blind, c.Heard, c.LookDue = false, false, announcement{}, false
	c.Blocker, c.Unblock = blockNone, false
}

// finish ends an acquisition: nothing may be granted to it after this.
func (s *State) finish(a int) {
	s.Acq[a] = acquisition{Phase: done, Late: s.Acq[a].Late}
}

// giveUp ends an acquisition that holds nothing, unless a lost request says that it might.
func (m *Line) giveUp(s *State, a int) {
	c := &s.Acq[a]
	c.unwatch()
	if c.Unknown {
		m.send(s, a, voiding, request{Op: opVoid})
		return
	}
	s.finish(a)
}

// begin sends the first request of an acquisition.
func (m *Line) begin(s *State, a int) {
	if m.kind(a) == Permits {
		m.send(s, a, viewing, request{Op: opView})
		return
	}
	m.send(s, a, trying, request{Op: opTry})
}

// queue sends an Enter. The own watch is confirmed first.
func (m *Line) queue(s *State, a int, v view) {
	c := &s.Acq[a]
	c.Watches = c.Watches || !m.defect(OwnWatchAfterTicket)
	m.send(s, a, entering, request{Op: opEnter, View: v})
}

// proceed acts upon a view of the limit.
func (m *Line) proceed(s *State, a int, v view) {
	try := m.cfg.Acquirers[a].Try
	switch {
	case v.Fit == fitsNowhere, try && v.Fit == fitsNot:
		m.giveUp(s, a)
	case try, m.kind(a) != Permits && s.Acq[a].Phase == trying:
		m.send(s, a, trying, request{Op: opTry, View: v})
	default:
		m.queue(s, a, v)
	}
}

// own makes a the owner in its client's eyes.
func (m *Line) own(s *State, a int, tok, index int8, h hints) {
	c := &s.Acq[a]
	c.unwatch()
	c.Tok, c.X, c.H = tok, index, h
	if c.Cancel {
		m.release(s, a)
		return
	}
	c.Phase = owning
}

// release sends the Pass of what a holds, with the next of the local line in it.
func (m *Line) release(s *State, a int) {
	c := &s.Acq[a]
	r := request{Op: opPass, P: c.Tok, Void: c.Unknown, Heir: c.Heir, H: c.H}
	if n := m.nextLocal(s, a); n >= 0 {
		r.Next = int8(n + 1)
		s.Acq[n].Phase = named
		s.Acq[n].Watches = !m.defect(NextWithoutWatch)
	}
	m.send(s, a, releasing, r)
}

// answer acts upon the reply of the transaction under way.
func (m *Line) answer(s *State, a int) {
	c := &s.Acq[a]
	out, rep := c.Out, c.Rep
	c.forget()
	if rep.Code == codeNoLease || rep.Code == codeRefused {
		s.finish(a)
		return
	}
	switch out.Op {
	case opView:
		m.proceed(s, a, rep.View)
	case opTry:
		m.answerTry(s, a, rep)
	case opEnter, opLook, opClaim:
		m.answerWaiting(s, a, out.Op, rep)
	case opCancel, opVoid:
		m.answerEnding(s, a, out.Op, rep)
	case opPass:
		m.answerPass(s, a, out, rep)
	case opDowngrade:
		if rep.Code == codeGranted {
			c.Phase, c.Tok, c.X, c.H = owning, rep.P, 0, hints{}
			return
		}
		m.release(s, a)
	}
}

func (m *Line) answerTry(s *State, a int, rep reply) {
	switch rep.Code {
	case codeGranted:
		m.own(s, a, rep.P, rep.X, rep.H)
	case codeLimit:
		m.proceed(s, a, rep.View)
	default:
		if m.cfg.Acquirers[a].Try {
			m.giveUp(s, a)
			return
		}
		m.queue(s, a, rep.View)
	}
}

func (m *Line) answerWaiting(s *State, a int, o op, rep reply) {
	c := &s.Acq[a]
	switch rep.Code {
	case codeGranted:
		m.own(s, a, rep.P, rep.X, rep.H)
	case codeGone:
		m.giveUp(s, a)
	case codeLimit:
		m.proceed(s, a, rep.View)
	default:
		c.Phase, c.C, c.Watches, c.Blind = waiting, rep.P, true, false
		if o == opEnter && !m.cfg.EarlyLook {
			c.LookDue = true
			c.Blocker, c.Unblock = blockNone, false
			return
		}
		if m.defect(BlockerFromNow) {
			c.Blocker, c.Unblock = rep.Blocker, false
		}
		if m.defect(NoBlockerWatch) {
			c.Blocker, c.Unblock = blockNone, false
		}
		if rep.Code == codeMayClaim {
			m.send(s, a, claiming, request{Op: opClaim, P: c.C, View: rep.View})
		}
	}
}

func (m *Line) answerEnding(s *State, a int, o op, rep reply) {
	c := &s.Acq[a]
	if o == opVoid {
		c.Unknown = false
	}
	switch rep.Code {
	case codeGranted:
		c.Cancel = true
		m.own(s, a, rep.P, rep.X, rep.H)
	case codeWait:
		c.C = rep.P
		m.send(s, a, cancelling, request{Op: opCancel, P: rep.P, Void: c.Unknown})
	case codeDone:
		s.finish(a)
	default: // gone: the void record was not written with it
		m.giveUp(s, a)
	}
}

func (m *Line) answerPass(s *State, a int, out request, rep reply) {
	c := &s.Acq[a]
	if rep.Code == codeLineChanged {
		out.H = rep.H
		m.send(s, a, releasing, out)
		return
	}
	if out.Next > 0 {
		m.resolveNext(s, int(out.Next-1), rep)
	}
	if rep.Code == codeNotOwner && c.Unknown && !m.defect(LostOwnerDoesNotAsk) {
		m.send(s, a, voiding, request{Op: opVoid})
		return
	}
	s.finish(a)
}
