package model

// Check implements search.Model.
func (m *Queue) Check(s *State) string {
	switch s.Harm {
	case harmTwice:
		return "an item was put twice"
	case harmAfterAck:
		return "an item came back after its ack"
	}
	for i := range m.cfg.Items {
		it := &s.Items[i]
		if it.Effects > 1 {
			return "an effect was applied twice"
		}
		for c := range m.cfg.Consumers {
			v := s.Verdicts[c][i]
			applied := it.Effects == 1 && it.Token == v.Token && v.Token != 0
			switch {
			case v.Told == fine && !applied && it.At != erased:
				return "an ack that was confirmed has no effect"
			case v.Told == stale && applied:
				return "an ack that is called stale has its effect"
			}
		}
	}
	return ""
}

// Settled implements search.Model.
func (m *Queue) Settled(s *State) string {
	alive := false
	for c := range m.cfg.Consumers {
		a := &s.Consumers[c]
		alive = alive || a.Phase != over
	}
	if !alive {
		return ""
	}
	for i := range m.cfg.Items {
		if it := &s.Items[i]; it.At != acked && it.At != erased {
			return "an item is left in the queue while somebody consumes"
		}
	}
	return ""
}

// Canonical implements search.Model: it drops late requests that can have no
// effect any more, and replaces revisions by their ranks.
func (m *Queue) Canonical(s *State) {
	for c := range m.cfg.Consumers {
		m.prune(s, &s.Consumers[c], c)
	}
	for p := range m.cfg.Items {
		m.prune(s, &s.Producers[p], p)
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

func (m *Queue) prune(s *State, a *actor, who int) {
	var kept [maxLate]request
	n := 0
	for _, r := range a.Late {
		if r.Op != opNone && m.matters(s, who, r) {
			kept[n] = r
			n++
		}
	}
	a.Late = kept
}

// matters tells whether a late request could still change something.
func (m *Queue) matters(s *State, who int, r request) bool {
	if m.cfg.Defect != Correct {
		return true
	}
	it := s.Items[r.Item]
	switch r.Op {
	case opEnqueue:
		return !it.Dedup
	case opArrive:
		return !s.Dead[who] && s.Here[who] == 0
	case opTidy:
		return s.Work[r.Of] && s.Here[r.Of] == 0
	case opClaim:
		return it.At == ready && it.Mod == r.Mod && s.Here[who] == r.Here
	default:
		return it.At == out && it.Mod == r.Mod
	}
}

// revisions visits every revision in a state.
func (m *Queue) revisions(s *State, visit func(*int8)) {
	actors := func(a *actor) {
		for _, r := range []*int8{&a.Here, &a.Mod, &a.Rep.Mod, &a.Req.Mod, &a.Req.Here} {
			visit(r)
		}
		for l := range a.Late {
			visit(&a.Late[l].Mod)
			visit(&a.Late[l].Here)
		}
	}
	for i := range m.cfg.Items {
		visit(&s.Items[i].Mod)
		visit(&s.Items[i].Token)
		actors(&s.Producers[i])
	}
	for c := range m.cfg.Consumers {
		visit(&s.Here[c])
		actors(&s.Consumers[c])
		for i := range m.cfg.Items {
			visit(&s.Verdicts[c][i].Token)
		}
	}
}
