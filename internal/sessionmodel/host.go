package sessionmodel

import "github.com/conclavehq/conclave/internal/waitqueue/model"

// host is what a host does about one connection.
func (p *stepper) host(c int) {
	k, n := &p.from.Conns[c], int8(c+1)
	if k.Phase == over {
		return
	}
	if k.Left && !k.Seen && !k.Cut {
		p.do(model.Step{Actor: n, Act: actSee}, func(s *State) { s.Conns[c].Seen = true })
	}
	switch k.Phase {
	case idle:
		p.first(c, n)
	case reading:
		p.do(model.Step{Actor: n, Act: actRead}, func(s *State) { p.readToAttach(s, c) })
	case putting:
		p.do(model.Step{Actor: n, Act: actPut}, func(s *State) {
			s.Conns[c].Phase = reading
			if s.put(n, k.Guard, p.m.cfg.Defect) {
				s.Conns[c].Phase = attached
			}
		})
	case attached:
		p.serve(c, n)
	case finding:
		p.do(model.Step{Actor: n, Act: actFind}, func(s *State) { p.readToMark(s, c) })
	case marking:
		p.do(model.Step{Actor: n, Act: actMark}, func(s *State) {
			s.Conns[c].Phase = finding
			if s.mark(n, k.Guard, p.m.cfg.Defect) {
				s.Conns[c].Phase = revoking
			}
		})
	case revoking:
		p.do(model.Step{Actor: n, Act: actRevoke}, func(s *State) { s.Alive, s.Conns[c].Phase = false, over })
	}
}

// first takes the heartbeat that says whose stream it is.
func (p *stepper) first(c int, n int8) {
	k := &p.from.Conns[c]
	if k.First.Sent {
		p.do(model.Step{Actor: n, Act: actTake}, func(s *State) {
			k := &s.Conns[c]
			k.Phase = reading
			if p.m.cfg.Defect == AttachUncounted {
				k.Last = beatFor
			}
			if p.m.cfg.Defect == AnswerBeforeAttach {
				k.Beat, k.First = k.First, message{}
				s.answer(c, true, p.m.cfg.Defect)
			}
		})
	} else if k.Seen {
		p.do(model.Step{Actor: n, Act: actEnd}, func(s *State) { s.Conns[c].Phase = over })
	}
}

// serve answers heartbeats until the end of the connection, and lets that count
// when the last one counts no more.
func (p *stepper) serve(c int, n int8) {
	k := &p.from.Conns[c]
	if k.Seen {
		if k.Last >= beatFor || p.m.cfg.Defect == ReleaseAtOnce {
			next := finding
			if p.m.cfg.Defect == ReleaseUnmarked {
				next = revoking
			}
			p.do(model.Step{Actor: n, Act: actEnd}, func(s *State) {
				s.Wrong = !s.Conns[c].Left
				s.Conns[c].Phase = next
			})
		}
		return
	}
	if !p.from.Alive || !k.First.Sent && !k.Beat.Sent {
		return
	}
	for _, renewing := range []bool{true, false} {
		st := model.Step{Actor: n, Act: actAnswer}
		if !renewing {
			st.Act = actAnswerOnly
		}
		p.do(st, func(s *State) {
			k := &s.Conns[c]
			if k.First.Sent {
				k.Beat, k.First = k.First, message{}
			}
			s.answer(c, renewing, p.m.cfg.Defect)
		})
	}
}

// answer answers the heartbeat that has arrived, and notes it first.
func (s *State) answer(c int, renewing bool, d Defect) {
	k := &s.Conns[c]
	if renewing {
		s.Lease = leaseFor
	}
	promise := s.Lease
	if d == AnswerKeepsFull {
		promise = leaseFor
	}
	if !k.Left && !k.Cut {
		k.Answer = message{Sent: true, Age: k.Beat.Age, Lease: promise}
	}
	k.Beat = message{}
	if d != AnswerBeforeAttach || k.Phase == attached {
		k.Last = 0
	}
}

func (p *stepper) readToAttach(s *State, c int) {
	k, n, d := &s.Conns[c], int8(c+1), p.m.cfg.Defect
	switch {
	case !s.Alive, s.Ending && d != AttachRevives:
		k.Phase = over
	case s.Conn == n:
		k.Phase = attached
	case s.Conn > n && d != AttachIgnoresOrder:
		k.Phase = over
	default:
		k.Phase, k.Guard = putting, s.Rev
	}
}

// put is the transaction that attaches.
func (s *State) put(n, guard int8, d Defect) bool {
	if !s.Alive || s.Rev != guard && d != AttachUnguarded {
		return false
	}
	s.Rev++
	s.Conn, s.Ending = n, false
	return true
}

func (p *stepper) readToMark(s *State, c int) {
	k, n := &s.Conns[c], int8(c+1)
	switch {
	case !s.Alive:
		k.Phase = over
	case p.m.cfg.Defect == MarkUnguarded && !s.Ending:
		k.Phase = marking
	case s.Conn != n:
		k.Phase = over
	case s.Ending:
		k.Phase = revoking
	default:
		k.Phase, k.Guard = marking, s.Rev
	}
}

// mark is the transaction that only the last attachment can win.
func (s *State) mark(n, guard int8, d Defect) bool {
	if !s.Alive || s.Rev != guard && d != MarkUnguarded {
		return false
	}
	s.Rev++
	s.Ending = true
	if d == MarkUnguarded {
		s.Conn = n
	}
	return true
}
