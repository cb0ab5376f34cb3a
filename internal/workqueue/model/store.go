package model

// apply is etcd: it applies a request of an actor, and returns the answer.
func (m *Queue) apply(s *State, who int, r request) reply {
	i := &s.Items[r.Item]
	switch r.Op {
	case opEnqueue:
		if i.Dedup && !m.is(DedupIgnored) {
			return reply{Code: codeRefused}
		}
		s.Rev++
		if i.At != nowhere {
			s.Harm = harmTwice
		}
		*i = item{At: ready, Mod: s.Rev, Puts: i.Puts + 1, Dedup: true, Effects: i.Effects, Token: i.Token}
	case opArrive:
		if s.Dead[who] {
			return reply{Code: codeNoSession}
		}
		if s.Here[who] == 0 {
			s.Rev++
			s.Here[who], s.Work[who] = s.Rev, true
		}
		return reply{Code: codeDone, Mod: s.Here[who]}
	case opClaim:
		return m.claim(s, who, r)
	case opAck:
		return m.ack(s, who, r)
	case opTidy:
		if s.Here[r.Of] != 0 || m.holds(s, r.Of) {
			return reply{Code: codeRefused}
		}
		s.Work[r.Of] = false
	default:
		return m.giveBack(s, r)
	}
	return reply{Code: codeDone, Mod: s.Rev}
}

func (m *Queue) claim(s *State, who int, r request) reply {
	i := &s.Items[r.Item]
	switch {
	case (s.Here[who] == 0 || s.Here[who] != r.Here) && !m.is(ClaimWithoutHere):
		return reply{Code: codeNoSession}
	case i.At == out && int(i.By) == who:
		return reply{Code: codeFound, Mod: i.Mod}
	case i.At != ready || i.Mod != r.Mod:
		return reply{Code: codeRefused}
	}
	s.Rev++
	i.At, i.By, i.Mod = out, int8(who), s.Rev
	s.Notes[who][r.Item] = false
	return reply{Code: codeDone, Mod: s.Rev}
}

func (m *Queue) ack(s *State, who int, r request) reply {
	i := &s.Items[r.Item]
	mine := i.At == out && int(i.By) == who
	if !mine || i.Mod != r.Mod {
		if !m.is(AckUnguarded) || i.At == nowhere {
			switch {
			case mine: // a later delivery
				return reply{Code: codeFound, Mod: i.Mod}
			case s.Notes[who][r.Item]:
				return reply{Code: codeReturned}
			case (s.Here[who] == 0 || s.Here[who] != r.Here) && !m.is(GoneMeansAcked):
				return reply{Code: codeNoSession} // somebody may have taken it back
			}
			return reply{Code: codeRefused}
		}
	}
	s.Rev++
	i.Effects++
	i.Token, i.At, i.Mod = r.Mod, acked, 0
	s.Notes[who][r.Item] = false
	return reply{Code: codeDone, Mod: s.Rev}
}

// giveBack returns a delivery to the queue.
func (m *Queue) giveBack(s *State, r request) reply {
	i := &s.Items[r.Item]
	if i.At != out || i.By != r.Of || i.Mod != r.Mod {
		if !m.is(ReturnUnguarded) || r.Op != opReturn || i.At != out && i.At != acked {
			return reply{Code: codeRefused}
		}
	}
	if r.Op == opInherit && s.Here[r.Of] != 0 && !m.is(InheritUnguarded) {
		return reply{Code: codeRefused}
	}
	s.Rev++
	if i.At == acked {
		s.Harm = harmAfterAck
	}
	i.At, i.Mod = ready, s.Rev
	if r.Op == opOverdue && !s.Dead[r.Of] && !m.is(NoNote) {
		s.Notes[r.Of][r.Item] = true
	}
	return reply{Code: codeDone, Mod: s.Rev}
}

// holds tells whether deliveries of a session stand.
func (m *Queue) holds(s *State, who int8) bool {
	for i := range m.cfg.Items {
		if s.Items[i].At == out && s.Items[i].By == who {
			return true
		}
	}
	return false
}

// expire ends a lease, with the keys on it.
func (s *State) expire(who int) {
	s.Rev++
	s.Dead[who], s.Here[who] = true, 0
	s.Notes[who] = [maxItems]bool{}
}
