package model

import (
	"fmt"
	"strings"

	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

// Check implements [model.Model].
func (m *Meeting) Check(s *State) string {
	if s.Harm != "" {
		return s.Harm
	}
	for g := 1; g < len(s.Gens); g++ {
		gen := &s.Gens[g]
		if gen.Ready > 0 && size(gen.Mem) != m.cfg.Parties {
			return fmt.Sprintf("generation %d is ready with %d members", g, size(gen.Mem))
		}
		if x := int(gen.Lost) - 1; x >= 0 && !s.Dead[m.session(x)] && !s.Arr[x].Dropped {
			return fmt.Sprintf("arrival %d was named as lost, and was not", x+1)
		}
	}
	for a := range m.cfg.Arrivals {
		if bad := m.checkArrival(s, a); bad != "" {
			return bad
		}
	}
	return ""
}

// checkArrival: what an arrival was told is what the store says, and nobody is
// in two generations or out before the others.
func (m *Meeting) checkArrival(s *State, a int) string {
	c, in := &s.Arr[a], 0
	for g := 1; g < len(s.Gens); g++ {
		if has(s.Gens[g].Mem, a) {
			in++
		}
	}
	switch {
	case in > 1:
		return fmt.Sprintf("arrival %d is a member of two generations", a+1)
	case c.Out == outEntered && !has(s.Gens[c.G].Mem, a):
		return fmt.Sprintf("arrival %d entered, and is no member", a+1)
	case in > 0 && (c.Out == outFull || c.Out == outCancelled || c.Out == outBroken || c.Out == outDeleted && !c.Dropped):
		return fmt.Sprintf("arrival %d is a member, and was told that it is not", a+1)
	case c.Parted && !m.defect(LeaveForgetsTheLast):
		if left := s.standing(c.G) & s.Gens[c.G].Mem; left != 0 {
			return fmt.Sprintf("arrival %d left before the others", a+1)
		}
	}
	return ""
}

// Settled implements [model.Model].
func (m *Meeting) Settled(s *State) string {
	for a := range m.cfg.Arrivals {
		c := &s.Arr[a]
		switch {
		case c.Phase == idle && m.blocked(s, a):
		case c.Phase == waiting:
			if bad := m.mayWait(s, a); bad != "" {
				return bad
			}
		case c.Phase != done && c.Phase != crashed:
			return fmt.Sprintf("arrival %d is stuck: %s", a+1, phaseText[c.Phase])
		case s.Ticket[a].C > 0:
			return fmt.Sprintf("the ticket of arrival %d is left over", a+1)
		}
	}
	return ""
}

// blocked tells whether an arrival never starts, since the one before it waits.
func (m *Meeting) blocked(s *State, a int) bool {
	after := m.cfg.Arrivals[a].After
	return s.Dead[m.session(a)] || s.Crash[m.session(a)] || after > 0 && s.Arr[after-1].Phase != done
}

// mayWait: who waits for ever waits for somebody who never came.
func (m *Meeting) mayWait(s *State, a int) string {
	c := &s.Arr[a]
	switch {
	case c.G != s.G || s.Inside:
		return fmt.Sprintf("arrival %d waits for a generation that is past", a+1)
	case !s.stands(a, c.G):
		return fmt.Sprintf("arrival %d waits without a ticket", a+1)
	case size(s.standing(c.G)) >= m.cfg.Parties:
		return fmt.Sprintf("arrival %d waits, and all are here", a+1)
	}
	for b := range s.Party {
		if s.Party[b].C > 0 && s.Party[b].G == c.G && !s.stands(b, c.G) {
			return fmt.Sprintf("arrival %d waits, and nobody notices the loss of %d", a+1, b+1)
		}
	}
	return ""
}

// Canonical implements [model.Model]: it forgets what can have no effect any
// more, and replaces revisions by their ranks.
func (m *Meeting) Canonical(s *State) {
	for a := range m.cfg.Arrivals {
		c := &s.Arr[a]
		if c.Phase == done {
			c.V, c.Unknown, c.Gone, c.Deleted = 0, false, false, false
		}
		k := 0
		for _, r := range c.Late {
			if r.Op != opNone && m.mayMatter(s, a, &r) {
				c.Late[k] = r
				k++
			}
		}
		for ; k < maxLate; k++ {
			c.Late[k] = request{}
		}
	}
	var used, rank [128]int8
	revisions(s, func(r *int8) { used[*r] = 1 })
	n := int8(0)
	for r := 1; r < len(used); r++ {
		n += used[r]
		rank[r] = n
	}
	revisions(s, func(r *int8) { *r = rank[*r] })
	s.Rev = n
}

// mayMatter says whether a late request could still have an effect.
func (m *Meeting) mayMatter(s *State, a int, r *request) bool {
	switch r.Op {
	case opLeave:
		return s.stands(a, r.G)
	case opJoin:
		return (r.V == s.Ver || m.defect(JoinIgnoresState)) && !s.Void[a] && !s.Dead[m.session(a)]
	case opReady:
		return r.V == s.Ver || m.defect(ReadyIgnoresState)
	case opCancel:
		return r.V == s.Ver && !s.Void[a] || m.defect(CancelIgnoresReady)
	}
	return r.V == s.Ver
}

// revisions visits every revision in a state.
func revisions(s *State, f func(*int8)) {
	visit := func(r *int8) {
		if *r > 0 {
			f(r)
		}
	}
	visit(&s.Left)
	for a := range s.Arr {
		visit(&s.Ticket[a].C)
		visit(&s.Party[a].C)
		c := &s.Arr[a]
		visit(&c.Req.R)
		visit(&c.Req.C)
		visit(&c.Rep.R)
		for k := range c.Late {
			visit(&c.Late[k].R)
			visit(&c.Late[k].C)
		}
	}
}

var phaseText = [...]string{
	idle: "not started", beginning: "beginning", joining: "joining", readying: "writing the ready mark", waiting: "waiting",
	cancelling: "cancelling", withdrawing: "withdrawing", inside: "inside", leaving: "leaving", parting: "waiting for the others to leave",
	overing: "ending the generation", breaking: "breaking the generation", done: "done", crashed: "crashed",
}

var actText = [...]string{
	actArrive: "arrives", actApply: "the store applies its request", actApplyLate: "the store applies a late copy of its request",
	actLoseLate: "a late copy is lost for good", actAnswer: "gets the reply", actHear: "hears of the state key",
	actLook: "looks for its ticket", actLookForLost: "looks, and finds a loss", actLeave: "leaves", actLookForOver: "looks, and finds nobody",
	actSessionOver: "learns that its session is over", actLoseReply: "gives up on a reply (fault)", actCancel: "is cancelled (fault)",
	actLoseWatch: "misses events (fault)", actDropTicket: "its ticket is deleted by hand (fault)",
	actExpire: "the lease ends (fault)", actExpireCrashed: "the lease of the crashed session ends", actCrash: "the process crashes (fault)",
}

// Describe implements [model.Model].
func (m *Meeting) Describe(st model.Step) string {
	who := "arrival"
	if st.Arg >= actExpire {
		who = "session"
	}
	return strings.Join([]string{who, fmt.Sprint(st.Actor + 1), actText[st.Arg]}, " ")
}
