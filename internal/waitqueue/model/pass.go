package model

// nest is how many hints one Pass tries before it asks for the line.
const nest = 2

// owns says whether token p is what a holds.
func (m *Line) owns(s *State, a int, p int8) bool {
	if m.defect(ReleaseBySession) && s.Grant.A > 0 && m.session(int(s.Grant.A-1)) == m.session(a) {
		return true
	}
	return p > 0 && (s.Grant.A == int8(a+1) && s.Grant.M == p || s.Holds[a].M == p)
}

// pass ends a's ownership and hands it over. Everything is behind the token, so a second copy finds nothing to do.
func (m *Line) pass(s *State, a int, r *request) reply {
	if !m.owns(s, a, r.P) {
		rep := reply{Code: codeNotOwner}
		if s.Tickets[a].C > 0 && !m.defect(PassKeepsTicketOfLostGrant) {
			s.Rev++
			s.deleteTicket(a) // what is left when somebody else deleted the grant
		}
		if !m.defect(LostGrantKeepsShadow) {
			m.deleteShadow(s, a)
		}
		if m.defect(LostOwnerDoesNotAsk) && r.Void {
			m.void(s, a)
		}
		m.tellNext(s, r, &rep)
		return rep
	}
	var rep reply
	switch {
	case s.Holds[a].M == 0:
		rep = m.handOver(s, a, r)
	case m.holdsAs(a) == Permits:
		rep = m.passPermits(s, a, r)
	case m.held(s, Reader, a) && !m.defect(ReaderPassesBesideReaders):
		s.Rev++
		m.leave(s, a, r)
		rep = reply{Code: codeDone}
	default:
		rep = m.handOver(s, a, r)
	}
	if rep.Code == codeDone {
		m.tellNext(s, r, &rep)
	}
	return rep
}

// leave deletes what a held and its ticket.
func (m *Line) leave(s *State, a int, r *request) {
	if s.Grant.A == int8(a+1) || m.defect(ReleaseBySession) {
		s.deleteGrant()
	}
	m.deleteHold(s, a)
	s.deleteTicket(a)
	if !(r.Forced && m.defect(ForcedKeepsShadow)) {
		m.deleteShadow(s, a)
	}
	if r.Void {
		m.void(s, a)
	}
}

// replace is leave where the grant is overwritten: its watchers see a PUT, which they ignore.
func (m *Line) replace(s *State, a int, r *request) {
	s.Grant.A, s.Grant.M = 0, 0
	m.leave(s, a, r)
}

// handOver is the chain of a writer, and of the last reader.
func (m *Line) handOver(s *State, a int, r *request) reply {
	if m.handToHeir(s, a, r) {
		return reply{Code: codeDone}
	}
	rev := s.Rev + 1
	tried := 0
	for i := 0; i < maxHints && r.H[i].A > 0 && tried < nest; i++ {
		b := int(r.H[i].A - 1)
		tried++
		if m.urgentWaits(s, b) && !m.defect(PassIgnoresUrgent) && !(m.kind(b) == Reader && m.defect(BatchIgnoresUrgent)) {
			continue
		}
		if m.kind(b) == Reader {
			s.Rev = rev
			m.leave(s, a, r)
			m.batch(s, m.readers(r.H, i), 0, rev)
			m.putNext(s, r, rev)
			return reply{Code: codeDone}
		}
		if !s.stands(r.H[i]) {
			continue
		}
		s.Rev = rev
		m.replace(s, a, r)
		m.grantTo(s, b, rev, 0)
		m.mark(s, b, rev, 0, r.H.after(i))
		m.putNext(s, r, rev)
		return reply{Code: codeDone}
	}
	if m.anyWaits(s) {
		return reply{Code: codeLineChanged, H: m.firstWaiting(s, a)}
	}
	s.Rev = rev
	if n := int(r.Next) - 1; n >= 0 && (!s.Voids[n] || m.defect(NextWithoutVoidGuard)) {
		m.replace(s, a, r)
		m.grantTo(s, n, rev, 0)
		return reply{Code: codeDone}
	}
	m.leave(s, a, r)
	return reply{Code: codeDone}
}

// after is what the next owner inherits.
func (h hints) after(i int) (rest hints) {
	copy(rest[:], h[i+1:])
	return rest
}

// readers returns the hint at i and the readers right behind it, in its bucket: between two buckets somebody may
// have come since the line was read.
func (m *Line) readers(h hints, i int) (batch hints) {
	first := int(h[i].A - 1)
	for n := 0; i < maxHints && h[i].A > 0; n, i = n+1, i+1 {
		b := int(h[i].A - 1)
		if m.kind(b) != Reader {
			break
		}
		if m.cfg.Acquirers[b].Urgency != m.cfg.Acquirers[first].Urgency && !m.defect(BatchCrossesBuckets) {
			break
		}
		batch[n] = h[i]
	}
	return batch
}

// batch grants every hint that still waits. They share a revision, so the index makes their tokens differ.
func (m *Line) batch(s *State, batch hints, index, rev int8) {
	for _, h := range batch {
		if !s.stands(h) {
			continue
		}
		b := int(h.A - 1)
		m.grantTo(s, b, rev, index)
		m.mark(s, b, rev, index, hints{})
		index++
	}
}

// passPermits gives released permits to the first of the line, as far as they go. The sum does not grow, so no
// view of the other holds is needed and concurrent releases do not disturb each other.
func (m *Line) passPermits(s *State, a int, r *request) reply {
	if m.handToHeir(s, a, r) {
		return reply{Code: codeDone}
	}
	if r.H[0].A == 0 && m.anyWaits(s) {
		return reply{Code: codeLineChanged, H: m.firstWaiting(s, a)}
	}
	first := int(r.H[0].A) - 1
	if first >= 0 && m.urgentWaits(s, first) && !m.defect(BatchIgnoresUrgent) {
		return reply{Code: codeLineChanged, H: m.firstWaiting(s, a)}
	}
	rev := s.Rev + 1
	s.Rev = rev
	last := !m.held(s, Permits, a) && !m.anyTicket(s, a)
	m.leave(s, a, r)
	m.batch(s, m.affordable(r.H, m.cfg.Acquirers[a].Permits), 0, rev)
	if last && !m.defect(LimitKept) {
		s.Limit.M, s.Limit.N = 0, 0
	}
	return reply{Code: codeDone}
}

// affordable returns the longest run of hints, in one bucket, that n permits satisfy.
func (m *Line) affordable(h hints, n int8) (batch hints) {
	k := 0
	for i := 0; i < maxHints && h[i].A > 0; i++ {
		q := &m.cfg.Acquirers[h[i].A-1]
		if q.Urgency != m.cfg.Acquirers[h[0].A-1].Urgency && !m.defect(BatchCrossesBuckets) {
			break
		}
		if q.Permits > n {
			if m.defect(BatchSkipsTooLarge) {
				continue
			}
			break
		}
		n -= q.Permits
		batch[k] = h[i]
		k++
	}
	return batch
}

// putNext puts the ticket of the local line's next acquisition at the end of the line.
func (m *Line) putNext(s *State, r *request, rev int8) {
	n := int(r.Next) - 1
	if n < 0 || s.Voids[n] && !m.defect(NextWithoutVoidGuard) {
		return
	}
	if s.Tickets[n].C > 0 {
		if m.defect(NextOverwritesTicket) {
			m.mark(s, n, rev, 0, hints{})
		}
		return
	}
	s.Tickets[n] = ticket{C: rev}
	if s.Acq[n].Phase == done {
		s.Harm = harmFinished
	}
}

// tellNext reads what became of the local line's next acquisition.
func (m *Line) tellNext(s *State, r *request, rep *reply) {
	n := int(r.Next) - 1
	if n < 0 {
		return
	}
	t := &s.Tickets[n]
	switch {
	case s.Grant.A == int8(n+1):
		rep.Next, rep.NextP = codeGranted, s.Grant.M
	case t.Granted:
		rep.Next, rep.NextP = codeGranted, t.M
	case t.C > 0:
		rep.Next, rep.NextP = codeWait, t.C
	default:
		rep.Next = codeGone
	}
}

// downgrade turns a writer into a reader, and lets the readers behind it in.
func (m *Line) downgrade(s *State, a int, r *request) reply {
	if s.Grant.A != int8(a+1) || s.Grant.M != r.P {
		if s.Holds[a].M > 0 {
			return reply{Code: codeGranted, P: s.Holds[a].M}
		}
		return reply{Code: codeNotOwner}
	}
	s.Rev++
	rev := s.Rev
	s.deleteGrant()
	if !m.defect(DowngradeKeepsTicket) {
		s.deleteTicket(a)
	}
	s.Acq[a].Lowered = true
	m.grantTo(s, a, rev, 0)
	if f := int(r.H[0].A) - 1; f >= 0 && m.kind(f) == Reader && (!m.urgentWaits(s, f) || m.defect(BatchIgnoresUrgent)) {
		m.batch(s, m.readers(r.H, 0), 1, rev)
	}
	return reply{Code: codeGranted, P: rev}
}
