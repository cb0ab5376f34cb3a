package model

// A transfer names a waiter of the owner's kind whom the owner's Pass tries before its hints, whoever else waits.

// transfers lets somebody tell the owner of a transfer, or read what is needed to pass its ownership on to the heir
// without it.
func (p *stepper) transfers(a int) {
	m := p.m
	tok, holds := m.token(p.from, a)
	if p.from.Left.Transfer == 0 || !holds || m.kind(a) == Reader || p.from.Acq[a].Lowered {
		return
	}
	for b := range m.cfg.Acquirers {
		if b == a || !p.from.waits(b) || m.kind(b) != m.kind(a) {
			continue
		}
		heir := hint{int8(b + 1), p.from.Tickets[b].C}
		if p.from.Acq[a].Phase == owning && p.from.Acq[a].Heir.A == 0 {
			p.do(Step{Actor: int8(a), Act: actTransfer, Fault: true}, func(s *State) bool {
				s.Left.Transfer--
				s.Acq[a].Heir = heir
				return true
			})
		}
		if p.from.Op.Holder == 0 {
			p.do(Step{Actor: int8(a), Act: actReadTransferred, Fault: true}, func(s *State) bool {
				s.Left.Transfer--
				s.Op = operator{Holder: int8(a + 1), Tok: tok, H: m.firstWaiting(s, a), Heir: heir}
				return true
			})
		}
	}
}

// handToHeir is the first level of a Pass that has an heir. It reports false if the heir does not stand, or wants
// more permits than are given back.
func (m *Line) handToHeir(s *State, a int, r *request) bool {
	if r.Heir.A == 0 || !s.stands(r.Heir) && !m.defect(HeirNeedNotStand) {
		return false
	}
	b, rev := int(r.Heir.A-1), s.Rev+1
	if m.cfg.Acquirers[b].Permits > m.cfg.Acquirers[a].Permits && !m.defect(HeirMayWantMore) {
		return false
	}
	s.Rev = rev
	m.replace(s, a, r)
	m.inspect(s, b, rev) // and not whom it overtakes
	m.give(s, b, rev, 0)
	m.mark(s, b, rev, 0, hints{})
	m.putNext(s, r, rev)
	return true
}
