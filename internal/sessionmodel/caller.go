package sessionmodel

import "github.com/conclavehq/conclave/internal/waitqueue/model"

// caller is what the process does that has the session.
func (p *stepper) caller() {
	s := p.from
	if s.Dead {
		return
	}
	p.do(model.Step{Act: actDie}, func(s *State) {
		s.Dead, s.ByBeat, s.ByLease = true, 0, 0
		for c := range s.Conns {
			if s.Conns[c].Open {
				s.leave(c)
			}
		}
	})
	if int(s.Now) < p.m.cfg.Conns {
		hosts := p.m.cfg.Hosts
		if s.Now == 0 {
			hosts = 1 // they are alike
		}
		for h := range hosts {
			p.do(model.Step{Actor: s.Now + 1, Act: actConnect}, func(s *State) { p.connect(s, int8(h)) })
		}
	}
	for c := range s.Conns {
		p.onConn(c)
	}
}

// connect makes a connection and sends the first heartbeat on it. The caller may
// leave the one before open, but sends nothing on it any more.
func (p *stepper) connect(s *State, host int8) {
	s.Now++
	s.Conns[s.Now-1] = conn{Open: true, Host: host, First: message{Sent: true}}
	if s.ByBeat == unbounded && p.m.cfg.Defect != CountFromOpen {
		s.ByBeat = beatFor
	}
}

// onConn is what the caller does on one of its connections.
func (p *stepper) onConn(c int) {
	k := &p.from.Conns[c]
	if !k.Open || k.Left {
		return
	}
	n := int8(c + 1)
	p.do(model.Step{Actor: n, Act: actLeave}, func(s *State) { s.leave(c) })
	current := n == p.from.Now || p.m.cfg.Defect == UseOldStreams
	if current && !k.Cut && !k.Beat.Sent && !k.First.Sent && p.from.Beats > 0 {
		p.do(model.Step{Actor: n, Act: actSend}, func(s *State) {
			s.Beats--
			s.Conns[c].Beat = message{Sent: true}
		})
	}
	if k.Answer.Sent {
		p.do(model.Step{Actor: n, Act: actHear}, func(s *State) { p.hear(s, c) })
	}
}

// hear takes an answer in, counted from when its heartbeat was sent.
func (p *stepper) hear(s *State, c int) {
	a := s.Conns[c].Answer
	s.Conns[c].Answer = message{}
	if p.m.cfg.Defect == CountFromAnswer {
		a.Age = 0
	}
	if s.ByBeat != unbounded || p.m.cfg.Defect == CountFromOpen {
		s.ByBeat = max(s.ByBeat%unbounded, beatFor-a.Age, 0)
	}
	s.ByLease = max(s.ByLease, a.Lease-a.Age)
}

// leave ends a connection from the caller's side. What was on its way to the
// caller is lost.
func (s *State) leave(c int) {
	k := &s.Conns[c]
	k.Left, k.Answer = true, message{}
}
