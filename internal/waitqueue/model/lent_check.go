package model

import "fmt"

var lentHarmText = [...]string{
	lentDenied:    "a call ended without the name that nobody cancelled",
	lentItself:    "a grant overtook a ticket of its own lease",
	lentOvertakes: "a grant overtook an earlier ticket",
	lentToken:     "a token did not grow",
	lentFresh:     "a call began anew too often",
}

// Check implements [Model].
func (m *Lent) Check(s *LentState) string {
	if s.Harm != lentHarmless {
		return lentHarmText[s.Harm]
	}
	for k := range m.cfg.Calls {
		c := &s.Calls[k]
		switch {
		case c.Phase == owning && !c.Ended && !(s.Dead && m.host(k) > 0) && (s.Grant.A != c.ID || s.Grant.M != c.Tok):
			return fmt.Sprintf("call %d believes to own with token %d, the store has %d of acquisition %d", k+1, c.Tok, s.Grant.M, s.Grant.A)
		case c.Phase == waiting && s.Tickets[c.ID-1].Granted && c.Heard == heardNothing:
			return fmt.Sprintf("call %d was granted, and no event says so", k+1)
		}
	}
	waits := 0
	for id := int8(1); id <= maxIDs; id++ {
		if callOf(id) < len(m.cfg.Calls) && m.lent(id) && s.waits(id) {
			waits++
		}
	}
	if waits > 1 || waits > 0 && m.lent(s.Grant.A) {
		return "the lease waits behind itself"
	}
	return ""
}

// Settled implements [Model].
func (m *Lent) Settled(s *LentState) string {
	for k := range m.cfg.Calls {
		if c := &s.Calls[k]; c.Phase != done && c.Phase != crashed && !(c.Phase == idle && s.Hosts[m.host(k)].Dead) {
			return fmt.Sprintf("call %d is stuck: %s", k+1, phaseText[c.Phase])
		}
	}
	if s.Grant.A > 0 {
		return fmt.Sprintf("the grant of acquisition %d is left over", s.Grant.A)
	}
	for id := range s.Tickets {
		if s.Tickets[id].C > 0 {
			return fmt.Sprintf("the ticket of acquisition %d is left over", id+1)
		}
	}
	return ""
}

// Canonical implements [Model].
func (m *Lent) Canonical(s *LentState) {
	for k := range m.cfg.Calls {
		m.prune(s, &s.Calls[k])
	}
	for h := range s.Hosts {
		if s.Hosts[h].Dead {
			s.Hosts[h].Rev, s.Hosts[h].Mine = 0, false
		}
	}
	var used, rank [128]int8
	s.revisions(func(r *int8) { used[*r] = 1 })
	n := int8(0)
	for r := 1; r < len(used); r++ {
		if used[r] > 0 {
			n++
			rank[r] = n
		}
	}
	s.revisions(func(r *int8) { *r = rank[*r] })
	s.Rev = n
}

// prune drops late requests whose guard can never hold again.
func (m *Lent) prune(s *LentState, c *lentCall) {
	k := 0
	for _, r := range c.Late {
		if r.Op != opNone && m.mayMatter(s, &r) {
			c.Late[k] = r
			k++
		}
	}
	for ; k < maxLate; k++ {
		c.Late[k] = lentRequest{}
	}
}

func (m *Lent) mayMatter(s *LentState, r *lentRequest) bool {
	if s.Dead && m.lent(r.ID) {
		return false
	}
	switch r.Op {
	case opTry, opEnter:
		return s.Voids[r.ID-1].Rev == 0 && m.atHome(s, r)
	case opTakeUp:
		return s.Tickets[r.ID-1].C > 0 || s.Grant.A == r.ID
	case opCancel, opClaim:
		return s.waits(r.ID) && s.Tickets[r.ID-1].C == r.P
	case opVoid, opGiveUp:
		return m.responsible(s, r) || m.defect(GiveUpIgnoresTakeUp)
	}
	return true
}

// revisions visits every revision in a state.
func (s *LentState) revisions(f func(*int8)) {
	visit := func(rs ...*int8) {
		for _, r := range rs {
			if *r > 0 {
				f(r)
			}
		}
	}
	visit(&s.Home, &s.Grant.M)
	for id := range s.Tickets {
		visit(&s.Tickets[id].C, &s.Tickets[id].M, &s.Voids[id].Rev)
	}
	for h := range s.Hosts {
		visit(&s.Hosts[h].Rev)
	}
	for k := range s.Calls {
		c := &s.Calls[k]
		visit(&c.C, &c.Tok, &c.Adopted, &c.HeardM, &c.Out.P, &c.Out.Void, &c.Out.Came, &c.Rep.P, &c.Rep.Home, &c.Rep.Void)
		for i := range c.Late {
			visit(&c.Late[i].P, &c.Late[i].Void, &c.Late[i].Came)
		}
	}
}

// Describe implements [Model].
func (m *Lent) Describe(st Step) string {
	var text string
	switch st.Act {
	case actKill:
		return fmt.Sprintf("host %d is killed (fault)", st.Actor)
	case actExpire:
		return "the lease that the hosts serve expires (fault)"
	case actReleaseAt:
		text = fmt.Sprintf("releases at host %d, by its token", st.Arg)
	case actClaim:
		text = "finds itself first and the name free, claims it"
	case actHear:
		text = heardText[st.Arg]
	case actApply, actApplyLate, actLoseLate, actAnswer, actLoseReply:
		text = fmt.Sprintf(actText[st.Act], opText[st.Arg])
	default:
		text = actText[st.Act]
	}
	who := "a library user"
	if h := m.host(int(st.Actor)); h > 0 {
		who = fmt.Sprintf("host %d", h)
	}
	return fmt.Sprintf("call %d (%s): %s", st.Actor+1, who, text)
}
