package sessionmodel

import "github.com/conclavehq/conclave/internal/waitqueue/model"

// trouble is what may go wrong about one connection.
func (p *stepper) trouble(c int) {
	k, n := &p.from.Conns[c], int8(c+1)
	if p.from.Faults.LoseReply > 0 && (k.Phase == putting || k.Phase == marking || k.Phase == revoking) {
		next := *p.from
		next.Faults.LoseReply--
		if next.remember(late{k.Phase, n, k.Guard}) {
			switch k.Phase {
			case putting:
				next.Conns[c].Phase = reading
			case marking:
				next.Conns[c].Phase = finding
			}
			p.emit(model.Step{Actor: n, Act: actLoseReply, Fault: true}, &next)
		}
	}
	if p.from.Faults.LoseBeat > 0 {
		if k.First.Sent && k.Phase == idle || k.Beat.Sent {
			p.do(model.Step{Actor: n, Act: actLoseBeat, Fault: true}, func(s *State) {
				s.Faults.LoseBeat--
				s.Conns[c].First, s.Conns[c].Beat = message{}, message{}
			})
		}
		if k.Answer.Sent {
			p.do(model.Step{Actor: n, Act: actLoseAnswer, Fault: true}, func(s *State) {
				s.Faults.LoseBeat--
				s.Conns[c].Answer = message{}
			})
		}
	}
	if p.from.Faults.HostClose > 0 && !k.Cut && !k.Seen {
		p.do(model.Step{Actor: n, Act: actHostClose, Fault: true}, func(s *State) {
			s.Faults.HostClose--
			p.cut(s, c)
		})
	}
}

// cut ends a connection from the host's side: what hangs on it is not released.
func (p *stepper) cut(s *State, c int) {
	k := &s.Conns[c]
	k.Cut = true
	if p.m.cfg.Defect == OwnCloseCounts {
		k.Seen = true
		return
	}
	k.Phase = over
	k.First, k.Beat = message{}, message{}
}

// lateRequests applies what was given up, or loses it for good.
func (p *stepper) lateRequests() {
	for i, l := range p.from.Late {
		if l.Kind == idle {
			continue
		}
		p.do(model.Step{Actor: l.Conn, Act: actForget}, func(s *State) { s.Late[i] = late{} })
		p.do(model.Step{Actor: l.Conn, Act: actLate}, func(s *State) {
			s.Late[i] = late{}
			switch l.Kind {
			case putting:
				s.put(l.Conn, l.Guard, p.m.cfg.Defect)
			case marking:
				s.mark(l.Conn, l.Guard, p.m.cfg.Defect)
			case revoking:
				s.Alive = false
			}
		})
	}
}

// kill ends a host with all its connections, and starts it again. What it had
// sent to etcd may still be applied.
func (p *stepper) kill(h int) {
	if p.from.Faults.Kill == 0 {
		return
	}
	next := *p.from
	next.Faults.Kill--
	for c := range next.Conns {
		k := &next.Conns[c]
		if !k.Open || int(k.Host) != h {
			continue
		}
		if k.Phase == putting || k.Phase == marking || k.Phase == revoking {
			if !next.remember(late{k.Phase, int8(c + 1), k.Guard}) {
				return
			}
		}
		k.Cut, k.Phase = true, over
		k.First, k.Beat = message{}, message{}
	}
	p.emit(model.Step{Actor: int8(h), Act: actKill, Fault: true}, &next)
}
