package model

// The local line: writers of one session, on one name and in one bucket, stand behind one ticket.

// busy says whether another acquisition of a's session stands for the local line: it owns, or it is on its way.
func (m *Line) busy(s *State, a int) bool {
	for b := range m.cfg.Acquirers {
		if b != a && m.session(b) == m.session(a) && s.Acq[b].Phase.leads() {
			return true
		}
	}
	return false
}

// leads says whether an acquisition in this phase holds back the others of its local line. One that is being
// cancelled does not: the next may enter for itself at once.
func (p phase) leads() bool {
	switch p {
	case named, viewing, trying, entering, waiting, looking, claiming, owning, lowering, releasing:
		return true
	}
	return false
}

// nextLocal returns who is next in a's local line, -1 if nobody.
func (m *Line) nextLocal(s *State, a int) int {
	if !m.cfg.LocalLine {
		return -1
	}
	for b := range m.cfg.Acquirers {
		if b != a && m.session(b) == m.session(a) && s.Acq[b].Phase == local && !m.cfg.Acquirers[b].Try {
			return b
		}
	}
	return -1
}

// arrive starts an acquisition, or has it join the local line.
func (m *Line) arrive(s *State, a int) {
	if !m.cfg.LocalLine || !m.busy(s, a) {
		m.begin(s, a)
		return
	}
	if m.cfg.Acquirers[a].Try && !m.ending(s, a) {
		s.finish(a)
		return
	}
	s.Acq[a].Phase = local
}

// ending says whether the one that holds the local line back is on its way out: a TryLock waits for that.
func (m *Line) ending(s *State, a int) bool {
	for b := range m.cfg.Acquirers {
		if b != a && m.session(b) == m.session(a) && s.Acq[b].Phase.leads() && s.Acq[b].Phase != releasing {
			return false
		}
	}
	return true
}

// resolveNext tells the acquisition that a Pass named what became of it. Its own event may have come first.
func (m *Line) resolveNext(s *State, n int, rep reply) {
	c := &s.Acq[n]
	if c.Phase != named {
		return
	}
	switch rep.Next {
	case codeGranted:
		m.own(s, n, rep.NextP, 0, hints{})
	case codeWait:
		c.Phase, c.C, c.LookDue, c.Watches = waiting, rep.NextP, true, true
		if c.Cancel {
			c.unwatch()
			m.send(s, n, cancelling, request{Op: opCancel, P: c.C})
		}
	default:
		if c.Cancel {
			s.finish(n)
			return
		}
		c.unwatch()
		c.Phase = local
	}
}
