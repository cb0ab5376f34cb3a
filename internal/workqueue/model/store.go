package model

import "cmp"

// apply is etcd: it applies a request of an actor, and returns the answer.
func (m *Queue) apply(s *State, who int, r request) reply {
	switch r.Op {
	case opEnqueue:
		return m.enqueue(s, r)
	case opResume:
		return m.resume(s, who, r)
	case opHead:
		s.Head = r.Of
	case opDrop, opDropOut, opDropAll, opForget, opRemove:
		return m.dropped(s, r)
	case opArrive:
		if s.Dead[who] {
			return reply{Code: codeNoSession}
		}
		if s.Here[who] == 0 {
			s.Rev++
			s.Here[who], s.Work[who] = s.Rev, true
		}
		return reply{Code: codeDone, Mod: s.Here[who]}
	case opGather, opAckAll, opSplit, opInheritAll:
		return m.together(s, who, r)
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
	return reply{Code: codeDone}
}

func (m *Queue) claim(s *State, who int, r request) reply {
	i := &s.Items[r.Item]
	switch {
	case (s.Here[who] == 0 || s.Here[who] != r.Here) && !m.is(ClaimWithoutHere):
		return reply{Code: codeNoSession}
	case i.At == out && int(i.By) == who:
		return reply{Code: codeFound, Mod: i.Mod}
	case s.Paused:
		return reply{Code: codePaused}
	case i.At != ready || i.Mod != r.Mod:
		return reply{Code: codeRefused}
	}
	s.Rev++
	i.At, i.By, i.Mod, i.Segment = out, int8(who), s.Rev, 0
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
	m.leave(s, int8(who), r.Item, r.Mod, s.standing(int8(who)))
	i.Effects++
	i.Token, i.At, i.Mod, i.Of = cmp.Or(r.Too, r.Mod), acked, 0, 0
	s.Notes[who][r.Item] = false
	return reply{Code: codeDone}
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
	m.leave(s, r.Of, r.Item, r.Mod, s.standing(r.Of)|trailPut)
	i.At, i.Mod, i.Of = ready, s.Rev, 0
	if r.Op == opBury {
		i.At = buried
	}
	if r.Op == opOverdue && !s.Dead[r.Of] && !m.is(NoNote) {
		s.Notes[r.Of][r.Item] = true
	}
	return reply{Code: codeDone}
}

// holds tells whether deliveries of a session stand.
func (m *Queue) holds(s *State, who int8) bool {
	if s.Outs[who] != 0 && !m.is(TidyMindsSingles) {
		return true
	}
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
