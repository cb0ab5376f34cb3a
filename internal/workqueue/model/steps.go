package model

import (
	search "github.com/conclavehq/conclave/internal/waitqueue/model"
)

// What a step does. The numbers are only names.
const (
	actSend = iota
	actApply
	actAnswer
	actLate
	actLook
	actAck
	actNack
	actNotice
	actEndOfLease
	actReturn
	actLoseReply
	actExpire
	actCrash
	actVisibility
	actCancel
	actDropOut
	actDropHere
	actAgain
	actBury
	actCompact
	actRemove
	actGather
	actAckAll
	actSplit
	actSplitByOther
	actDropAll
	actPause
	actUnpause
	actOpen
)

// Queue is the protocol as a transition system.
type Queue struct{ cfg Config }

var _ search.Model[State] = (*Queue)(nil)

// New returns the model of a configuration.
func New(cfg Config) *Queue { return &Queue{cfg} }

func (m *Queue) is(d Defect) bool { return m.cfg.Defect == d }

// producers come after the consumers among the actors.
const producers = maxConsumers

// Start implements search.Model: producers are about to put, consumers to come.
func (m *Queue) Start() State {
	s := State{Left: m.cfg.Faults}
	if m.cfg.There {
		m.stock(&s)
		return s
	}
	if m.cfg.Begun {
		s.Lane = 1
	}
	for p := range m.cfg.Items {
		s.Producers[p].request(m.prepare(&s, p))
	}
	return s
}

func (a *actor) request(r request) {
	a.Phase, a.Req, a.Sent, a.Applied, a.Rep = busy, r, false, false, reply{}
}

// Next implements search.Model.
func (m *Queue) Next(s *State, emit func(search.Step, *State)) {
	for c := range m.cfg.Consumers {
		m.request(s, &s.Consumers[c], c, m.session(c), emit)
		m.consume(s, c, emit)
		m.faults(s, c, emit)
	}
	for p := range m.cfg.Items {
		m.request(s, &s.Producers[p], producers+p, p, emit)
	}
	for i := range m.cfg.Items {
		if s.Left.DropOut > 0 && s.Items[i].At == out {
			n := *s
			n.Left.DropOut--
			n.Rev++
			n.Items[i].At, n.Items[i].Mod, n.Items[i].Of = erased, 0, 0
			emit(search.Step{Actor: int8(i), Act: actDropOut, Fault: true}, &n)
		}
	}
	m.openByOther(s, emit)
	m.hands(s, emit)
	m.request(s, &s.Remover, remover, 0, emit)
	m.remove(s, emit)
	m.compact(s, emit)
}

// request moves an actor's request on.
func (m *Queue) request(s *State, a *actor, id, who int, emit func(search.Step, *State)) {
	for l, r := range a.Late {
		if r.Op != opNone {
			n := *s
			b := n.actor(id)
			b.Late[l] = request{}
			m.apply(&n, who, r)
			emit(search.Step{Actor: int8(id), Act: actLate, Arg: int8(r.Op), Fault: true}, &n)
		}
	}
	if a.Phase != busy {
		return
	}
	n := *s
	b := n.actor(id)
	switch {
	case !a.Sent:
		b.Sent = true
		emit(search.Step{Actor: int8(id), Act: actSend, Arg: int8(a.Req.Op)}, &n)
	case !a.Applied:
		b.Rep, b.Applied = m.apply(&n, who, a.Req), true
		emit(search.Step{Actor: int8(id), Act: actApply, Arg: int8(a.Req.Op)}, &n)
	default:
		m.answer(&n, b, id)
		emit(search.Step{Actor: int8(id), Act: actAnswer, Arg: int8(a.Req.Op)}, &n)
	}
	if a.Sent && s.Left.LoseReply > 0 && a.Req.Op != opResume { // a read may be repeated
		m.lose(s, a, id, emit)
	}
}

// lose gives a request up, and goes on as the protocol says.
func (m *Queue) lose(s *State, a *actor, id int, emit func(search.Step, *State)) {
	n := *s
	b := n.actor(id)
	n.Left.LoseReply--
	if !a.Applied && !b.late(a.Req) {
		return
	}
	again := true
	switch a.Req.Op {
	case opEnqueue:
		if m.cfg.Remove != Kept {
			if !b.Doubt {
				b.Doubt, b.Mod = true, a.Req.Mod
			}
			m.enqueueAgain(&n, b, id-producers)
			emit(search.Step{Actor: int8(id), Act: actLoseReply, Arg: int8(a.Req.Op), Fault: true}, &n)
			return
		}
	case opClaim:
		b.Doubt = true
		again = !m.is(ClaimNotRepeated)
	case opGather:
		b.Doubt = true
		again = !m.is(BundleNotRepeated)
	case opAckAll:
		b.Doubt = !m.is(BundleAckForgotten)
		b.request(request{Op: opSplit, Mod: a.Req.Mod})
		emit(search.Step{Actor: int8(id), Act: actLoseReply, Arg: int8(a.Req.Op), Fault: true}, &n)
		return
	case opSplit:
		again = !m.is(SplitNotRepeated)
	case opAck:
		b.Doubt = !m.is(AckNotRepeated)
	case opInherit, opInheritAll, opOverdue, opTidy, opHead:
		again = false // the next look finds what is left to do
	case opDrop, opDropOut, opDropAll, opForget, opRemove:
		*b = actor{Phase: over, Late: b.Late} // the operator is told that nobody knows
	}
	switch {
	case b.Phase == over:
	case again:
		b.request(a.Req)
	default:
		b.Phase, b.Req, b.Doubt = idle, request{}, false
	}
	emit(search.Step{Actor: int8(id), Act: actLoseReply, Arg: int8(a.Req.Op), Fault: true}, &n)
}

// late keeps a request that may be applied later, if there is room for it.
func (a *actor) late(r request) bool {
	for l := range a.Late {
		if a.Late[l].Op == opNone {
			a.Late[l] = r
			return true
		}
	}
	return false
}

func (s *State) actor(id int) *actor {
	if id == remover {
		return &s.Remover
	}
	if id >= producers {
		return &s.Producers[id-producers]
	}
	return &s.Consumers[id]
}

// answer is what an actor does with a reply.
func (m *Queue) answer(s *State, a *actor, id int) {
	r, rep := a.Req, a.Rep
	doubt := a.Doubt
	a.Phase, a.Req, a.Sent, a.Applied, a.Rep, a.Doubt = idle, request{}, false, false, reply{}, false
	switch r.Op {
	case opEnqueue:
		m.enqueued(s, a, id-producers, rep, doubt)
	case opRemove:
		if rep.Code == codeDone {
			a.Phase = over
		}
	case opResume:
		m.resumed(s, a, id, r, rep)
	case opArrive:
		if rep.Code == codeNoSession {
			a.Phase = over
		}
		if a.Here = rep.Mod; doubt && a.Phase != over {
			a.Doubt = true
			a.request(m.claimAgain(a))
		}
	case opClaim:
		switch {
		case rep.Code == codeNoSession && doubt && !m.is(ClaimForgottenWithKey):
			a.Doubt, a.Item, a.Mod = true, r.Item, r.Mod
			a.request(request{Op: opArrive})
		case rep.Code == codeNoSession:
			a.Here = 0
		case rep.Code == codePaused && doubt:
			a.Doubt = true
			a.request(r)
		case rep.Code == codeDone, rep.Code == codeFound && doubt:
			a.Phase, a.Item, a.Mod = holding, r.Item, rep.Mod
			s.Verdicts[id][r.Item] = verdict{Token: rep.Mod}
		}
	case opAck:
		if m.cfg.Hosts {
			m.ended(s, id, r, rep, doubt)
			return
		}
		s.conclude(id, r, rep, doubt)
		a.put(r.Item)
	case opReturn:
		a.put(r.Item)
	case opGather, opAckAll, opSplit:
		m.answered(s, a, id, r, rep, doubt)
	}
}

// conclude tells the caller of an ack what became of it.
func (s *State) conclude(id int, r request, rep reply, doubt bool) {
	v := &s.Verdicts[id][r.Item]
	switch {
	case rep.Code == codeDone, rep.Code == codeRefused && doubt:
		v.Told = fine
	case rep.Code == codeNoSession && doubt:
		v.Told = unknown // the first one took it, or whoever found the session gone
	default:
		v.Told = stale
	}
}

// consume is what a consumer does by itself.
func (m *Queue) consume(s *State, c int, emit func(search.Step, *State)) {
	a := &s.Consumers[c]
	send := func(act search.Step, r request) {
		n := *s
		n.Consumers[c].request(r)
		emit(act, &n)
	}
	if a.Phase == over {
		if !s.Dead[m.session(c)] {
			n := *s
			n.expire(m.session(c))
			emit(search.Step{Actor: int8(c), Act: actEndOfLease}, &n)
		}
		return
	}
	if s.Dead[m.session(c)] && a.Phase != busy {
		n := *s
		n.Consumers[c].stop()
		emit(search.Step{Actor: int8(c), Act: actNotice}, &n)
	}
	switch a.Phase {
	case idle:
		m.look(s, c, send, emit)
		m.lookTogether(s, c, send)
		m.tidy(s, c, send)
	case holding:
		r := request{Op: opAck, Item: a.Item, Of: int8(m.session(c)), Mod: a.Mod, Here: a.Here}
		if m.cfg.Hosts {
			r.Op, r.Here = opResume, 0
		}
		send(search.Step{Actor: int8(c), Act: actAck, Arg: a.Item}, r)
		if !m.cfg.Once || s.Items[a.Item].Nacks == 0 {
			n := *s
			n.Items[a.Item].Nacks = 1
			r.Op = opReturn
			n.Consumers[c].request(r)
			emit(search.Step{Actor: int8(c), Act: actNack, Arg: a.Item}, &n)
		}
	case settling:
		send(search.Step{Actor: int8(c), Act: actReturn, Arg: a.Item}, request{Op: opReturn, Item: a.Item, Of: int8(m.session(c)), Mod: a.Mod})
	case gripping, sorting:
		m.handle(s, c, emit)
	}
}

// stop ends a process, or all that it does for a session.
func (a *actor) stop() {
	late := a.Late
	if a.Phase == busy && a.Sent && !a.Applied {
		a.late(a.Req)
		late = a.Late
	}
	*a = actor{Phase: over, Late: late}
}

// look reads the queue, and goes for something in it.
func (m *Queue) look(s *State, c int, send func(search.Step, request), move func(search.Step, *State)) {
	a := &s.Consumers[c]
	if a.Here == 0 {
		send(search.Step{Actor: int8(c), Act: actLook}, request{Op: opArrive})
		return
	}
	if now := m.cursor(s, c); m.cfg.Lanes && now != a.Cursor {
		n := *s
		n.Consumers[c].Cursor = now
		move(search.Step{Actor: int8(c), Act: actLook}, &n)
		return
	}
	if m.cfg.Lanes && a.Cursor > s.Head {
		send(search.Step{Actor: int8(c), Act: actLook}, request{Op: opHead, Of: a.Cursor})
	}
	for i := range m.cfg.Items {
		it := s.Items[i]
		switch {
		case it.At == ready && m.visible(a, &it) && !s.Paused && !m.about(s, c, int8(i)):
			send(search.Step{Actor: int8(c), Act: actLook, Arg: int8(i)}, request{Op: opClaim, Item: int8(i), Mod: it.Mod, Here: a.Here})
		case it.At == out && (s.Here[it.By] == 0 && s.Work[it.By] || m.is(InheritUnguarded)) && !m.is(DeathUnnoticed):
			send(search.Step{Actor: int8(c), Act: actLook, Arg: int8(i)}, request{Op: opInherit, Item: int8(i), Of: it.By, Mod: it.Mod})
		}
	}
}

// tidy takes away the marks of sessions that left nothing.
func (m *Queue) tidy(s *State, c int, send func(search.Step, request)) {
	for d := range m.cfg.Consumers {
		if s.Consumers[c].Here != 0 && s.Here[d] == 0 && s.Work[d] && !m.holds(s, int8(d)) {
			send(search.Step{Actor: int8(c), Act: actLook, Arg: int8(d)}, request{Op: opTidy, Of: int8(d)})
		}
	}
}

// faults are those of a consumer.
func (m *Queue) faults(s *State, c int, emit func(search.Step, *State)) {
	a := &s.Consumers[c]
	fault := func(act search.Step, budget func(*Faults) *int8, do func(*State)) {
		if *budget(&s.Left) > 0 {
			n := *s
			*budget(&n.Left)--
			do(&n)
			act.Actor, act.Fault = int8(c), true
			emit(act, &n)
		}
	}
	own := m.session(c) == c // others have the one of consumer 0
	if own && !s.Dead[c] {
		fault(search.Step{Act: actExpire}, func(f *Faults) *int8 { return &f.Expire }, func(n *State) { n.expire(c) })
	}
	if a.Phase != over {
		fault(search.Step{Act: actCrash}, func(f *Faults) *int8 { return &f.Crash }, func(n *State) { n.Consumers[c].stop() })
	}
	if own && s.Here[c] != 0 {
		fault(search.Step{Act: actDropHere}, func(f *Faults) *int8 { return &f.DropHere }, func(n *State) {
			n.Rev++
			n.Here[c] = 0
		})
	}
	if a.Phase == busy && (a.Req.Op == opAckAll && a.Sent || a.Req.Op == opSplit && a.Doubt) {
		fault(search.Step{Act: actCancel}, func(f *Faults) *int8 { return &f.Cancel }, func(n *State) { m.cancelAll(n, c) })
	}
	if a.Phase == busy && a.Req.Op == opAck && a.Sent {
		fault(search.Step{Act: actCancel}, func(f *Faults) *int8 { return &f.Cancel }, func(n *State) {
			b := &n.Consumers[c]
			if !b.Applied && !b.late(b.Req) {
				return
			}
			n.Verdicts[c][a.Req.Item].Told = unknown
			if b.Hands[a.Req.Item].How != handNone {
				b.cancel(a.Req.Item)
				return
			}
			b.Phase, b.Item, b.Mod, b.Req, b.Sent, b.Applied, b.Rep = settling, a.Req.Item, a.Req.Mod, request{}, false, false, reply{}
		})
	}
	if a.Phase == busy && a.Sent && (a.Req.Op == opAck || a.Req.Op == opResume) {
		fault(search.Step{Act: actAgain}, func(f *Faults) *int8 { return &f.Again }, func(n *State) { m.again(n, c) })
	}
	if a.Phase == gripping || a.Phase == busy && a.Req.Op == opAckAll {
		fault(search.Step{Act: actSplitByOther}, func(f *Faults) *int8 { return &f.Split }, func(n *State) { m.splitByOther(n, c) })
	}
	m.visibility(s, c, fault)
}
