package model

import (
	"fmt"
	"strings"
)

// Check implements [Model].
func (m *Multi) Check(s *MultiState) string {
	if s.Harm != harmless {
		return harmText[s.Harm]
	}
	for a := range m.cfg.Members {
		c := &s.Members[a]
		whole := m.whole(s, a, c.Tok)
		if c.Phase == owning && !c.Ended && !s.Dead[a] && (!whole || m.isSet(a) && s.Sets[a] != c.Tok) {
			return fmt.Sprintf("acquisition %d believes to own what it does not", a+1)
		}
		if s.Sets[a] > 0 && s.Broken[a] == 0 && (!c.ByHand || m.cfg.TrustRecord) && m.foreign(s, a) {
			return fmt.Sprintf("the set record of acquisition %d stands, and a part is another's", a+1)
		}
	}
	return ""
}

// foreign says whether somebody else owns a name of a.
func (m *Multi) foreign(s *MultiState, a int) bool {
	for _, n := range m.names(a) {
		if s.Grants[n].A != 0 && s.Grants[n].A != int8(a+1) {
			return true
		}
	}
	return false
}

// whole says whether all names of a are its own with one token.
func (m *Multi) whole(s *MultiState, a int, tok int8) bool {
	for _, n := range m.names(a) {
		if s.Grants[n].A != int8(a+1) || s.Grants[n].M != tok {
			return false
		}
	}
	return true
}

// Settled implements [Model].
func (m *Multi) Settled(s *MultiState) string {
	for a := range m.cfg.Members {
		if c := &s.Members[a]; c.Phase != done {
			return fmt.Sprintf("acquisition %d is stuck: %s", a+1, phaseText[c.Phase])
		}
		if s.Sets[a] > 0 {
			return fmt.Sprintf("the set record of acquisition %d is left over", a+1)
		}
		for _, n := range m.names(a) {
			if s.Grants[n].A == int8(a+1) {
				return fmt.Sprintf("the grant of acquisition %d in %s is left over", a+1, nameText(n))
			}
			if s.Tickets[a][n].C > 0 {
				return fmt.Sprintf("the ticket of acquisition %d in %s is left over", a+1, nameText(n))
			}
		}
	}
	return ""
}

// Canonical implements [Model], as [Line.Canonical] does.
func (m *Multi) Canonical(s *MultiState) {
	for a := range m.cfg.Members {
		m.prune(s, a)
	}
	var used, rank [128]int8
	m.revisions(s, func(r *int8) { used[*r] = 1 })
	n := int8(0)
	for r := 1; r < len(used); r++ {
		n += used[r]
		rank[r] = n
	}
	m.revisions(s, func(r *int8) { *r = rank[*r] })
	s.Rev = n
}

// prune drops late requests whose guard can never hold again.
func (m *Multi) prune(s *MultiState, a int) {
	c := &s.Members[a]
	k := 0
	for _, r := range c.Late {
		gone := s.Dead[a] || s.Voids[a] && r.Op == opEnter
		if r.Op != opNone && !gone {
			c.Late[k] = r
			k++
		}
	}
	for ; k < maxLate; k++ {
		c.Late[k] = multiRequest{}
	}
}

// revisions visits every revision in a state.
func (m *Multi) revisions(s *MultiState, f func(*int8)) {
	visit := func(r *int8) {
		if *r > 0 {
			f(r)
		}
	}
	request := func(r *multiRequest) {
		visit(&r.P)
		for n := range r.H {
			visit(&r.H[n].C)
		}
	}
	visit(&s.Force.Tok)
	visit(&s.ForceH.C)
	for n := range s.Grants {
		visit(&s.Grants[n].M)
	}
	for a := range m.cfg.Members {
		visit(&s.Sets[a])
		visit(&s.Broken[a])
		for n := range s.Tickets[a] {
			visit(&s.Tickets[a][n].C)
			visit(&s.Tickets[a][n].M)
		}
		c := &s.Members[a]
		visit(&c.Tok)
		visit(&c.HeardM)
		visit(&c.Rep.P)
		for n := range c.Rep.H {
			visit(&c.Rep.H[n].C)
		}
		request(&c.Out)
		for i := range c.Late {
			request(&c.Late[i])
		}
	}
}

func nameText(n int) string { return string(rune('A' + n)) }

// Describe implements [Model].
func (m *Multi) Describe(st Step) string {
	a := int(st.Actor)
	var names strings.Builder
	for _, n := range m.names(a) {
		names.WriteString(nameText(n))
	}
	text := actText[st.Act]
	switch st.Act {
	case actHear:
		text = heardText[st.Arg]
	case actApply, actApplyLate, actLoseLate, actAnswer, actLoseReply:
		text = fmt.Sprintf(text, opText[st.Arg])
	case actDropTicket, actDropGrant, actReadForced, actPassForced:
		text = "in " + nameText(int(st.Arg)) + " " + text
	}
	return fmt.Sprintf("acquisition %d (%s, urgency %d): %s", a+1, names.String(), m.cfg.Members[a].Urgency, text)
}
