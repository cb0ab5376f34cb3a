package model

// Canonical implements [Model]: it forgets what can have no effect any more, and replaces revisions by their
// ranks, since the protocol only ever compares them.
func (m *Line) Canonical(s *State) {
	for a := range m.cfg.Acquirers {
		m.prune(s, a)
	}
	var used [128]bool
	m.revisions(s, func(r *int8) { used[*r] = true })
	var rank [128]int8
	n := int8(0)
	for r := 1; r < len(used); r++ {
		if used[r] {
			n++
			rank[r] = n
		}
	}
	m.revisions(s, func(r *int8) { *r = rank[*r] })
	s.Rev = n
}

// prune drops late requests whose guard can never hold again.
func (m *Line) prune(s *State, a int) {
	c := &s.Acq[a]
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

// mayMatter says whether a late request could still have an effect. Revisions never recur, and neither does a lease.
func (m *Line) mayMatter(s *State, a int, r *request) bool {
	if s.Dead[m.session(a)] {
		return false
	}
	t := &s.Tickets[a]
	switch r.Op {
	case opTry, opEnter:
		return !s.Voids[a]
	case opClaim, opCancel:
		return t.C == r.P && (!t.Granted || m.defect(CancelUnguarded))
	case opPass:
		return m.owns(s, a, r.P) || t.C > 0 || s.Shadow == int8(a+1) || m.defect(ReleaseBySession)
	case opDowngrade:
		return s.Grant.A == int8(a+1) && s.Grant.M == r.P
	}
	return true
}

// revisions visits every revision in a state.
func (m *Line) revisions(s *State, f func(*int8)) {
	visit := func(r *int8) {
		if *r > 0 {
			f(r)
		}
	}
	visit(&s.Grant.M)
	visit(&s.Limit.M)
	visit(&s.Op.Tok)
	visit(&s.Op.Heir.C)
	visitHints(&s.Op.H, visit)
	for a := range m.cfg.Acquirers {
		t, c := &s.Tickets[a], &s.Acq[a]
		if t.C > 0 {
			visit(&t.C)
			visit(&t.M)
			visitHints(&t.H, visit)
		}
		visit(&s.Holds[a].M)
		if c.Phase != done && c.Phase != crashed {
			visitClient(c, visit)
		}
		for i := range c.Late {
			if c.Late[i].Op != opNone {
				visitRequest(&c.Late[i], visit)
			}
		}
	}
}

func visitClient(c *acquisition, visit func(*int8)) {
	visit(&c.C)
	visit(&c.Tok)
	visit(&c.Heir.C)
	visitHints(&c.H, visit)
	visit(&c.Heard.M)
	visitHints(&c.Heard.H, visit)
	if c.Sent {
		visitRequest(&c.Out, visit)
		visit(&c.Rep.P)
		visit(&c.Rep.NextP)
		visit(&c.Rep.View.V)
		visit(&c.Rep.View.L)
		visitHints(&c.Rep.H, visit)
	}
}

func visitRequest(r *request, visit func(*int8)) {
	visit(&r.P)
	visit(&r.View.V)
	visit(&r.View.L)
	visit(&r.Heir.C)
	visitHints(&r.H, visit)
}

func visitHints(h *hints, visit func(*int8)) {
	for i := range h {
		if h[i].A == 0 {
			return
		}
		visit(&h[i].C)
	}
}
