package model

// together applies a request that is about a bundle.
func (m *Queue) together(s *State, who int, r request) reply {
	switch r.Op {
	case opGather:
		return m.gather(s, who, r)
	case opAckAll:
		return m.ackAll(s, who, r)
	case opSplit:
		return m.split(s, who, r)
	default:
		return m.inheritAll(s, r)
	}
}

// gather claims both items under one key.
func (m *Queue) gather(s *State, who int, r request) reply {
	stands := s.Here[who] != 0 && s.Here[who] == r.Here || m.is(BundleWithoutHere)
	unchanged := s.Items[0].At == ready && s.Items[0].Mod == r.Mod && s.Items[1].At == ready && s.Items[1].Mod == r.Too
	switch {
	case stands && !s.Paused && (unchanged || m.is(BundleUnchecked)):
	case !stands:
		return reply{Code: codeNoSession}
	case s.Outs[who] != 0:
		return reply{Code: codeFound, Mod: s.Outs[who]}
	case m.cfg.Parcels && s.own(0, who)+s.own(1, who) != 0:
		return reply{Code: codeFound, Mod: s.own(0, who), Too: s.own(1, who)}
	case s.Paused:
		return reply{Code: codePaused}
	default:
		return reply{Code: codeRefused}
	}
	s.Rev++
	to := bundled
	if m.cfg.Parcels {
		to = out
	} else {
		s.Outs[who] = s.Rev
	}
	for i := range m.cfg.Items {
		it := &s.Items[i]
		s.moved(it, it.At == ready)
		it.At, it.By, it.Mod, it.Segment = to, int8(who), s.Rev, 0
	}
	return reply{Code: codeDone, Mod: s.Rev, Too: s.Rev}
}

// own returns the revision of a session's delivery of an item, 0 if there is none.
func (s *State) own(i, who int) int8 {
	if it := &s.Items[i]; it.At == out && int(it.By) == who {
		return it.Mod
	}
	return 0
}

// moved notes it if an item is put somewhere, and was not where it is taken from.
func (s *State) moved(i *item, from bool) {
	switch {
	case i.At == acked:
		s.Harm = harmAfterAck
	case !from:
		s.Harm = harmDoubled
	}
}

func (m *Queue) ackAll(s *State, who int, r request) reply {
	if s.Outs[who] != r.Mod && !m.is(BundleAckUnguarded) {
		return reply{Code: codeRefused}
	}
	s.Rev++
	s.endBundle(who, acked)
	for i := range m.cfg.Items {
		it := &s.Items[i]
		it.Effects++
		it.Token = r.Mod
	}
	return reply{Code: codeDone}
}

// in tells whether an item is in a session's bundle.
func (s *State) in(i, who int) bool { return s.Items[i].At == bundled && int(s.Items[i].By) == who }

// endBundle deletes a bundle, if there is one.
func (s *State) endBundle(who int, to place) {
	s.Outs[who] = 0
	for i := range s.Items {
		if s.in(i, who) {
			s.Items[i].At, s.Items[i].Mod = to, 0
		}
	}
}

// split puts each delivery of a bundle under its own key, which keeps its token.
func (m *Queue) split(s *State, who int, r request) reply {
	if s.Outs[who] != r.Mod && !m.is(SplitUnguarded) {
		var mods [maxItems]int8
		for i := range m.cfg.Items {
			if it := &s.Items[i]; it.At == out && int(it.By) == who && (it.Of == r.Mod || m.is(AnyIsOurs)) {
				mods[i] = it.Mod
			}
		}
		return reply{Code: codeRefused, Mod: mods[0], Too: mods[1]}
	}
	s.Rev++
	s.Outs[who] = 0
	for i := range m.cfg.Items {
		it := &s.Items[i]
		s.moved(it, s.in(i, who))
		it.At, it.By, it.Mod, it.Of, it.Segment = out, int8(who), s.Rev, r.Mod, 0
		if m.is(SplitForgetsToken) {
			it.Of = 0
		}
	}
	return reply{Code: codeDone, Mod: s.Rev}
}

// inheritAll returns the bundle of a dead session to the queue.
func (m *Queue) inheritAll(s *State, r request) reply {
	if s.Outs[r.Of] != r.Mod && !m.is(BundleInheritAny) || s.Here[r.Of] != 0 && !m.is(BundleInheritUnguarded) {
		return reply{Code: codeRefused}
	}
	s.Rev++
	s.Outs[r.Of] = 0
	for i := range m.cfg.Items {
		it := &s.Items[i]
		s.moved(it, s.in(i, int(r.Of)))
		it.At, it.Mod, it.Of = ready, s.Rev, 0
	}
	return reply{Code: codeDone}
}

// dropAll deletes a bundle, if there is one, and its session's key in any case.
func (m *Queue) dropAll(s *State, r request) {
	s.Rev++
	if !m.is(BundleDropKeepsHere) {
		s.Here[r.Of] = 0
	}
	s.endBundle(int(r.Of), dropped)
}

// compares tells whether etcd compares all that it should: the defects that are about bundles are
// mostly of those who send.
func (m *Queue) compares() bool {
	switch m.cfg.Defect {
	case BundleUnchecked, BundleWithoutHere, BundleAckUnguarded, SplitUnguarded, BundleInheritUnguarded, BundleInheritAny:
		return false
	}
	return m.cfg.Bundles
}

// mattersTogether tells whether a late request about a bundle could still change something.
func (m *Queue) mattersTogether(s *State, who int, r request) bool {
	switch r.Op {
	case opGather:
		x, y := &s.Items[0], &s.Items[1]
		return x.At == ready && x.Mod == r.Mod && y.At == ready && y.Mod == r.Too && s.Here[who] == r.Here
	case opInheritAll:
		return s.Outs[r.Of] == r.Mod
	default:
		return s.Outs[who] == r.Mod
	}
}

// forgetBundles drops what nothing depends on any more, where there are bundles: whose an item
// was, what an actor remembers of what is over, and a verdict that stays right.
func (m *Queue) forgetBundles(s *State) {
	if !m.cfg.Bundles {
		return
	}
	for i := range m.cfg.Items {
		if it := &s.Items[i]; it.At != out && it.At != bundled {
			it.By = 0
		}
	}
	for c := range m.cfg.Consumers {
		a := &s.Consumers[c]
		holds := a.Phase == holding || a.Phase == gripping || a.Phase == sorting || a.Phase == settling
		if a.Phase == busy {
			switch a.Req.Op {
			case opAck, opAckAll, opSplit, opReturn:
				holds = true
			}
		}
		if holds {
			continue
		}
		if a.Phase != busy {
			a.Sent, a.Applied, a.Rep = false, false, reply{}
		}
		if !a.Doubt || a.Phase != busy || a.Req.Op != opArrive {
			a.Item, a.Mod, a.Too = 0, 0, 0
		}
		for i := range m.cfg.Items {
			if m.forever(s, a, i, &s.Verdicts[c][i]) {
				s.Verdicts[c][i] = verdict{}
			}
		}
	}
}

// forever tells whether a verdict of somebody who does not hold the delivery any more stays as
// right as it is: whatever acks it has sent cannot be applied.
func (m *Queue) forever(s *State, a *actor, i int, v *verdict) bool {
	it := &s.Items[i]
	applied := it.Effects == 1 && it.Token == v.Token && v.Token != 0
	switch v.Told {
	case fine:
		return applied || it.At == erased
	case stale:
		return !applied && a.Late == [maxLate]request{}
	default:
		return true
	}
}
