package model

// Check implements search.Model.
func (m *Queue) Check(s *State) string {
	switch s.Harm {
	case harmTwice:
		return "an item was put twice"
	case harmAfterAck:
		return "an item came back after its ack"
	case harmLiar:
		return "an ack is called stale although the history knows of it"
	case harmDoubled:
		return "an item is in two places"
	}
	for c, rev := range s.Outs {
		if rev != 0 && (!s.in(0, c) || !s.in(1, c)) {
			return "an item is in a bundle and elsewhere"
		}
	}
	for i := range m.cfg.Items {
		it := &s.Items[i]
		switch {
		case it.Effects > 1:
			return "an effect was applied twice"
		case s.Enqueued[i] == fine && it.At == nowhere:
			return "an enqueue that was confirmed put nothing"
		case m.cfg.Remove != Kept && !s.Listed && (it.At == ready || it.At == out || it.At == buried || it.At == bundled):
			return "an item is in a queue that is not listed"
		case it.At == bundled && s.Outs[it.By] != it.Mod:
			return "an item is in no bundle"
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
		if at := s.Items[i].At; at == ready || at == out || at == bundled || at == nowhere && s.Enqueued[i] != unknown {
			return "an item is left in the queue while somebody consumes"
		}
	}
	return ""
}

// Canonical implements search.Model: it drops late requests that can have no
// effect any more, and replaces revisions by their ranks.
func (m *Queue) Canonical(s *State) {
	for c := range m.cfg.Consumers {
		m.prune(s, &s.Consumers[c], m.session(c))
	}
	for p := range m.cfg.Items {
		m.prune(s, &s.Producers[p], p)
	}
	m.forgetBundles(s)
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
	if m.cfg.Defect != Correct && !m.compares() {
		return true
	}
	it := s.Items[r.Item]
	switch r.Op {
	case opEnqueue:
		return !it.Dedup && r.Mod == s.Removed && m.opens(s, r)
	case opArrive:
		return !s.Dead[who] && (s.Here[who] == 0 || s.Left.DropHere > 0 || m.cfg.Remove == Forced)
	case opHead:
		return true
	case opTidy:
		return s.Work[r.Of] && s.Here[r.Of] == 0
	case opGather, opAckAll, opSplit, opInheritAll:
		return m.mattersTogether(s, who, r)
	case opClaim:
		return it.At == ready && it.Mod == r.Mod && s.Here[who] == r.Here
	default:
		return it.At == out && it.Mod == r.Mod
	}
}

// revisions visits every revision in a state.
func (m *Queue) revisions(s *State, visit func(*int8)) {
	actors := func(a *actor) {
		for _, r := range []*int8{&a.Here, &a.Mod, &a.Too, &a.Rep.Mod, &a.Rep.Too, &a.Req.Mod, &a.Req.Here, &a.Req.Too} {
			visit(r)
		}
		for l := range a.Late {
			visit(&a.Late[l].Mod)
			visit(&a.Late[l].Here)
			visit(&a.Late[l].Too)
		}
		for i := range a.Hands {
			visit(&a.Hands[i].Mod)
		}
	}
	visit(&s.Removed)
	actors(&s.Remover)
	for i := range m.cfg.Items {
		visit(&s.Items[i].Mod)
		visit(&s.Items[i].Token)
		visit(&s.Items[i].Of)
		actors(&s.Producers[i])
	}
	for c := range m.cfg.Consumers {
		visit(&s.Here[c])
		visit(&s.Outs[c])
		actors(&s.Consumers[c])
		for i := range m.cfg.Items {
			visit(&s.Verdicts[c][i].Token)
		}
	}
}
