package model

import search "github.com/conclavehq/conclave/internal/waitqueue/model"

// stock puts the items into the queue before the search begins.
func (m *Queue) stock(s *State) {
	s.Listed = m.cfg.Remove != Kept
	for i := range m.cfg.Items {
		s.Rev++
		s.Items[i] = item{At: ready, Mod: s.Rev, Puts: 1, Dedup: true}
		s.Producers[i].Phase, s.Enqueued[i] = over, fine
	}
}

// lookTogether reads the queue, and goes for what is a matter of bundles in it.
func (m *Queue) lookTogether(s *State, c int, send func(search.Step, request)) {
	a := &s.Consumers[c]
	if !m.cfg.Bundles || a.Here == 0 {
		return
	}
	if r, ok := m.both(s, a); ok && !s.Paused && !m.about(s, c, 0) && !m.about(s, c, 1) {
		send(search.Step{Actor: int8(c), Act: actGather}, r)
	}
	for d, rev := range s.Outs {
		if rev != 0 && (s.Here[d] == 0 && s.Work[d] || m.is(BundleInheritUnguarded)) && !m.is(BundlesUnnoticed) {
			send(search.Step{Actor: int8(c), Act: actLook}, request{Op: opInheritAll, Of: int8(d), Mod: rev})
		}
	}
}

// both returns the claim of both items, if they wait.
func (m *Queue) both(s *State, a *actor) (request, bool) {
	x, y := &s.Items[0], &s.Items[1]
	return request{Op: opGather, Mod: x.Mod, Too: y.Mod, Here: a.Here}, x.At == ready && y.At == ready
}

// about tells whether a claim of an item is under way for another caller of the session: the
// process leaves out what it is about.
func (m *Queue) about(s *State, c int, i int8) bool {
	if !m.cfg.Bundles {
		return false
	}
	for o := range m.cfg.Consumers {
		b := &s.Consumers[o]
		if o == c || m.session(o) != m.session(c) || b.Phase != busy {
			continue
		}
		switch b.Req.Op {
		case opGather:
			return true
		case opClaim:
			if b.Req.Item == i {
				return true
			}
		case opArrive:
			if b.Doubt && (b.Too != 0 || b.Item == i) {
				return true
			}
		}
	}
	return false
}

// claimAgain returns the claim in doubt of a session that has made its key anew.
func (m *Queue) claimAgain(a *actor) request {
	r := request{Op: opClaim, Item: a.Item, Mod: a.Mod, Here: a.Here}
	if a.Too != 0 {
		r.Op, r.Item, r.Too = opGather, 0, a.Too
		a.Mod, a.Too = 0, 0
	}
	return r
}

// handle is what a consumer does with a bundle, or with what was one.
func (m *Queue) handle(s *State, c int, emit func(search.Step, *State)) {
	a := &s.Consumers[c]
	send := func(act search.Step, r request, do func(*State, *actor)) {
		n := *s
		b := &n.Consumers[c]
		b.request(r)
		if do != nil {
			do(&n, b)
		}
		act.Actor = int8(c)
		emit(act, &n)
	}
	if a.Phase == gripping {
		send(search.Step{Act: actAckAll}, request{Op: opAckAll, Mod: a.Mod}, nil)
		send(search.Step{Act: actSplit}, request{Op: opSplit, Mod: a.Mod}, nil)
		return
	}
	for i, h := range a.Hands {
		i := int8(i)
		ack := request{Op: opAck, Item: i, Of: int8(m.session(c)), Mod: h.Mod, Here: a.Here}
		if !m.cfg.Parcels {
			ack.Too = a.Mod
		}
		back := request{Op: opReturn, Item: i, Of: int8(m.session(c)), Mod: h.Mod}
		if m.is(SplitByToken) {
			ack.Mod = a.Mod
		}
		switch h.How {
		case handFree:
			send(search.Step{Act: actAck, Arg: i}, ack, nil)
			if h.Mod != 0 && (!m.cfg.Once || s.Items[i].Nacks == 0) {
				send(search.Step{Act: actNack, Arg: i}, back, func(n *State, _ *actor) { n.Items[i].Nacks = 1 })
			}
		case handAck:
			send(search.Step{Act: actAck, Arg: i}, ack, nil)
		case handLost:
			send(search.Step{Act: actAck, Arg: i}, ack, func(_ *State, b *actor) { b.Doubt = true })
		case handBack:
			send(search.Step{Act: actReturn, Arg: i}, back, nil)
		}
	}
}

// answered is what a consumer does with the answer to a claim, an ack or a split of a bundle.
func (m *Queue) answered(s *State, a *actor, c int, r request, rep reply, doubt bool) {
	switch r.Op {
	case opGather:
		m.gathered(s, a, c, r, rep, doubt)
	case opAckAll:
		if rep.Code == codeDone {
			for i := range m.cfg.Items {
				s.Verdicts[c][i].Told = fine
			}
			return
		}
		a.request(request{Op: opSplit, Mod: r.Mod}) // each by itself, as after a lost reply
		a.Hands = [maxItems]hand{{How: handAck}, {How: handAck}}
	case opSplit:
		m.fallApart(s, a, c, rep, doubt)
	}
}

func (m *Queue) gathered(s *State, a *actor, c int, r request, rep reply, doubt bool) {
	switch {
	case rep.Code == codeNoSession && doubt && !m.is(BundleForgottenWithKey):
		a.Doubt, a.Mod, a.Too = true, r.Mod, r.Too
		a.request(request{Op: opArrive})
	case rep.Code == codeNoSession:
		a.Here = 0
	case rep.Code == codePaused && doubt && !m.is(PausedMeansNever):
		a.Doubt = true // an earlier one may be applied after the pause
		a.request(r)
	case rep.Code == codeDone && m.cfg.Parcels, rep.Code == codeFound && doubt && m.cfg.Parcels:
		m.unpack(s, a, c, rep)
	case rep.Code == codeDone, rep.Code == codeFound && doubt && !m.is(BundleTakenForRefused):
		a.Phase, a.Mod = gripping, rep.Mod
		for i := range m.cfg.Items {
			s.Verdicts[c][i] = verdict{Token: rep.Mod}
		}
	}
}

// unpack takes over what one claim put under several keys. Under a new key of the session some
// of what it took may be back in the queue, so each is looked for.
func (m *Queue) unpack(s *State, a *actor, c int, rep reply) {
	switch {
	case rep.Mod == 0 && m.is(FirstForNone):
		return
	case rep.Mod != 0 && m.is(FirstForAll):
		rep.Too = rep.Mod
	}
	for i, mod := range [maxItems]int8{rep.Mod, rep.Too} {
		if mod != 0 {
			a.Hands[i] = hand{How: handFree, Mod: mod}
			s.Verdicts[c][i] = verdict{Token: mod}
		}
	}
	a.sort()
}

// fallApart takes over the answer to a split. A refused one was applied before, in doubt, if
// the deliveries are there. Else the ack of the bundle was, or somebody has taken it.
func (m *Queue) fallApart(s *State, a *actor, c int, rep reply, doubt bool) {
	mods := [maxItems]int8{rep.Mod, rep.Mod}
	if rep.Code == codeRefused {
		mods[1] = rep.Too
	}
	for i, mod := range mods {
		h := &a.Hands[i]
		if h.Mod = mod; h.How == handNone {
			h.How = handFree
			if doubt {
				h.How = handAck
			}
		}
		switch {
		case mod != 0: // what was in doubt was not applied, and will not be
		case h.How == handBack:
			*h = hand{}
		case m.is(SplitMeansAcked), doubt && m.is(SplitMeansAckedInDoubt):
			*h, s.Verdicts[c][i].Told = hand{}, fine
		case doubt:
			h.How = handLost
		default:
			h.How = handAck // which will find nothing
		}
	}
	a.sort()
}

// sort goes on with what is left of a bundle.
func (a *actor) sort() {
	a.Phase = sorting
	if a.Hands == [maxItems]hand{} {
		a.Phase = idle
	}
}

// put lets go of one delivery of what was a bundle.
func (a *actor) put(i int8) {
	if a.Hands[i].How != handNone {
		a.Hands[i] = hand{}
		a.sort()
	}
}

// cancel leaves the ack of one delivery of what was a bundle, which is returned in its time.
func (a *actor) cancel(i int8) {
	a.Req, a.Sent, a.Applied, a.Rep, a.Doubt = request{}, false, false, reply{}, false
	if a.Hands[i].How = handBack; a.Hands[i].Mod == 0 {
		a.Hands[i] = hand{}
	}
	a.sort()
}

// splitByOther is a split that another verb of the process sends, or another process of the
// session: it may be applied at any moment.
func (m *Queue) splitByOther(n *State, c int) {
	b := &n.Consumers[c]
	r := request{Op: opSplit, Mod: b.Mod}
	if b.Phase == busy {
		r.Mod = b.Req.Mod
	}
	b.late(r)
}

// cancelAll is a caller that does not wait for the end of its ack of a bundle, or for the split
// that follows one in doubt.
func (m *Queue) cancelAll(n *State, c int) {
	b := &n.Consumers[c]
	r := b.Req
	if r.Op == opAckAll && !b.Applied && !b.late(r) {
		return
	}
	for i := range m.cfg.Items {
		n.Verdicts[c][i].Told = unknown
		b.Hands[i] = hand{How: handBack}
	}
	b.Doubt = false
	switch {
	case m.is(BundleAckLeft):
		*b = actor{Here: b.Here, Late: b.Late}
	case r.Op == opAckAll:
		b.request(request{Op: opSplit, Mod: r.Mod})
	}
}

// hands are an operator's, on what is not one item's.
func (m *Queue) hands(s *State, emit func(search.Step, *State)) {
	for d, rev := range s.Outs {
		if rev != 0 && s.Left.DropOut > 0 {
			n := *s
			n.Left.DropOut--
			n.Rev++
			n.endBundle(d, erased)
			emit(search.Step{Actor: int8(d), Act: actDropAll, Fault: true}, &n)
		}
	}
	if n := *s; s.Paused {
		n.Paused = false
		emit(search.Step{Actor: remover, Act: actUnpause}, &n)
	} else if s.Left.Pause > 0 {
		n.Paused = true
		n.Left.Pause--
		emit(search.Step{Actor: remover, Act: actPause, Fault: true}, &n)
	}
}
