package model

import (
	"fmt"
	"strings"
)

var harmText = [...]string{
	harmFinished:  "something was put for a finished acquisition",
	harmDeadLease: "a grant went to a dead lease",
	harmOvertakes: "a grant overtook an earlier ticket",
	harmBeside:    "a writer was granted beside readers",
	harmTooMany:   "more permits were granted than the limit",
	harmToken:     "a token did not grow",
	harmShadow:    "the name was taken during a lock delay",
}

// Check implements [Model].
func (m *Line) Check(s *State) string {
	if s.Harm != harmless {
		return harmText[s.Harm]
	}
	if bad := m.checkBelief(s); bad != "" {
		return bad
	}
	if bad := m.checkLimit(s); bad != "" {
		return bad
	}
	return m.checkAnnounced(s)
}

// checkBelief: whoever believes to own is the owner, unless its lease is gone or an operator has taken it away.
func (m *Line) checkBelief(s *State) string {
	for a := range m.cfg.Acquirers {
		c := &s.Acq[a]
		if c.Phase != owning || c.Ended || s.Dead[m.session(a)] {
			continue
		}
		if !m.owns(s, a, c.Tok) || s.Grant.A != 0 && s.Grant.A != int8(a+1) {
			return fmt.Sprintf("acquisition %d believes to own with token %d, the store has %s", a+1, c.Tok, m.owners(s))
		}
		for b := range a {
			d := &s.Acq[b]
			if d.Phase == owning && !d.Ended && !s.Dead[m.session(b)] && d.Tok == c.Tok && d.X == c.X {
				return fmt.Sprintf("acquisitions %d and %d own with one token", b+1, a+1)
			}
		}
	}
	return ""
}

func (m *Line) owners(s *State) string {
	if s.Grant.A > 0 {
		return fmt.Sprintf("acquisition %d with token %d", s.Grant.A, s.Grant.M)
	}
	names := []string{"no writer"}
	for a := range m.cfg.Acquirers {
		if s.Holds[a].M > 0 {
			names = append(names, fmt.Sprintf("%d with token %d", a+1, s.Holds[a].M))
		}
	}
	return strings.Join(names, ", ")
}

// checkLimit: a limit and the keys of the name fit together.
func (m *Line) checkLimit(s *State) string {
	for a, q := range m.cfg.Acquirers {
		holds := s.Holds[a].M > 0 || s.Grant.A == int8(a+1)
		if !holds && s.Tickets[a].C == 0 {
			continue
		}
		switch {
		case q.Kind != Permits && s.Limit.M > 0:
			return fmt.Sprintf("acquisition %d is in a name with a limit, and is no semaphore's", a+1)
		case q.Kind == Permits && s.Limit.M == 0:
			return fmt.Sprintf("acquisition %d is in a name without its limit", a+1)
		case q.Kind == Permits && s.Limit.N != q.Limit:
			return fmt.Sprintf("acquisition %d is in a name with another limit", a+1)
		}
	}
	return ""
}

// checkAnnounced: a granted waiter has the news, or it is on its way. Without this a late look would hide that an
// event was missed.
func (m *Line) checkAnnounced(s *State) string {
	for a := range m.cfg.Acquirers {
		c, t := &s.Acq[a], &s.Tickets[a]
		if !t.Granted || c.Ended || c.Blind || c.Heard.Kind != heardNothing || c.Sent && c.Applied {
			continue
		}
		switch c.Phase {
		case waiting, looking, claiming, named:
			return fmt.Sprintf("acquisition %d was granted, and no event says so", a+1)
		}
	}
	return ""
}

// Settled implements [Model].
func (m *Line) Settled(s *State) string {
	if m.cfg.Holds {
		return m.checkHead(s)
	}
	for a := range m.cfg.Acquirers {
		switch c := &s.Acq[a]; {
		case c.Phase != done && c.Phase != crashed:
			return fmt.Sprintf("acquisition %d is stuck: %s", a+1, phaseText[c.Phase])
		case s.Grant.A == int8(a+1) || s.Holds[a].M > 0:
			return fmt.Sprintf("the grant of acquisition %d is left over", a+1)
		case s.Tickets[a].C > 0:
			return fmt.Sprintf("the ticket of acquisition %d is left over", a+1)
		}
	}
	if s.Shadow > 0 {
		return "the shadow is left over"
	}
	if s.Limit.M > 0 && m.cfg.Faults == (Faults{}) {
		return "the limit is left over"
	}
	return ""
}

// checkHead: while owners hold, nobody waits who could own beside them.
func (m *Line) checkHead(s *State) string {
	for a := range m.cfg.Acquirers {
		if !s.waits(a) || !m.room(s, a) {
			continue
		}
		if m.mayGo(s, a) {
			return fmt.Sprintf("acquisition %d could own, and nobody acts", a+1)
		}
	}
	return ""
}

// room says whether a could own beside what is held.
func (m *Line) room(s *State, a int) bool {
	switch m.kind(a) {
	case Writer:
		return s.Grant.A == 0 && !m.held(s, Reader, -1)
	case Reader:
		return s.Grant.A == 0
	default:
		return m.permits(s)+m.cfg.Acquirers[a].Permits <= s.Limit.N
	}
}

// mayGo says whether nobody waits ahead of a whom a must not overtake.
func (m *Line) mayGo(s *State, a int) bool {
	for b := range m.cfg.Acquirers {
		if b != a && s.waits(b) && m.ahead(s, b, a) && !(m.kind(a) == Reader && m.kind(b) == Reader) {
			return false
		}
	}
	return true
}
