package model

import (
	"fmt"

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
	for p := range m.cfg.Items {
		s.Producers[p].request(request{Op: opEnqueue, Item: int8(p)})
	}
	return s
}

func (a *actor) request(r request) {
	a.Phase, a.Req, a.Sent, a.Applied, a.Rep = busy, r, false, false, reply{}
}

// Next implements search.Model.
func (m *Queue) Next(s *State, emit func(search.Step, *State)) {
	for c := range m.cfg.Consumers {
		m.request(s, &s.Consumers[c], c, c, emit)
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
			n.Items[i].At, n.Items[i].Mod = erased, 0
			emit(search.Step{Actor: int8(i), Act: actDropOut, Fault: true}, &n)
		}
	}
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
	if a.Sent && s.Left.LoseReply > 0 {
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
	case opClaim:
		b.Doubt = true
		again = !m.is(ClaimNotRepeated)
	case opAck:
		b.Doubt = !m.is(AckNotRepeated)
	case opInherit, opOverdue, opTidy:
		again = false // the next look finds what is left to do
	}
	if again {
		b.request(a.Req)
	} else {
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
		a.Phase = over
	case opArrive:
		if rep.Code == codeNoSession {
			a.Phase = over
		}
		if a.Here = rep.Mod; doubt && a.Phase != over {
			a.Doubt = true
			a.request(request{Op: opClaim, Item: a.Item, Mod: a.Mod, Here: a.Here})
		}
	case opClaim:
		switch {
		case rep.Code == codeNoSession && doubt && !m.is(ClaimForgottenWithKey):
			a.Doubt, a.Item, a.Mod = true, r.Item, r.Mod
			a.request(request{Op: opArrive})
		case rep.Code == codeNoSession:
			a.Here = 0
		case rep.Code == codeDone, rep.Code == codeFound && doubt:
			a.Phase, a.Item, a.Mod = holding, r.Item, rep.Mod
			s.Verdicts[id][r.Item] = verdict{Token: rep.Mod}
		}
	case opAck:
		s.conclude(id, r, rep, doubt)
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
		if !s.Dead[c] {
			n := *s
			n.expire(c)
			emit(search.Step{Actor: int8(c), Act: actEndOfLease}, &n)
		}
		return
	}
	if s.Dead[c] && a.Phase != busy {
		n := *s
		n.Consumers[c].stop()
		emit(search.Step{Actor: int8(c), Act: actNotice}, &n)
	}
	switch a.Phase {
	case idle:
		m.look(s, c, send)
		m.tidy(s, c, send)
	case holding:
		r := request{Item: a.Item, Of: int8(c), Mod: a.Mod, Here: a.Here}
		r.Op = opAck
		send(search.Step{Actor: int8(c), Act: actAck, Arg: a.Item}, r)
		if !m.cfg.Once || s.Items[a.Item].Nacks == 0 {
			n := *s
			n.Items[a.Item].Nacks = 1
			r.Op = opReturn
			n.Consumers[c].request(r)
			emit(search.Step{Actor: int8(c), Act: actNack, Arg: a.Item}, &n)
		}
	case settling:
		send(search.Step{Actor: int8(c), Act: actReturn, Arg: a.Item}, request{Op: opReturn, Item: a.Item, Of: int8(c), Mod: a.Mod})
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
func (m *Queue) look(s *State, c int, send func(search.Step, request)) {
	a := &s.Consumers[c]
	if a.Here == 0 {
		send(search.Step{Actor: int8(c), Act: actLook}, request{Op: opArrive})
		return
	}
	for i := range m.cfg.Items {
		it := s.Items[i]
		switch {
		case it.At == ready:
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
	if !s.Dead[c] {
		fault(search.Step{Act: actExpire}, func(f *Faults) *int8 { return &f.Expire }, func(n *State) { n.expire(c) })
	}
	if a.Phase != over {
		fault(search.Step{Act: actCrash}, func(f *Faults) *int8 { return &f.Crash }, func(n *State) { n.Consumers[c].stop() })
	}
	if s.Here[c] != 0 {
		fault(search.Step{Act: actDropHere}, func(f *Faults) *int8 { return &f.DropHere }, func(n *State) {
			n.Rev++
			n.Here[c] = 0
		})
	}
	if a.Phase == busy && a.Req.Op == opAck && a.Sent {
		fault(search.Step{Act: actCancel}, func(f *Faults) *int8 { return &f.Cancel }, func(n *State) {
			b := &n.Consumers[c]
			if !b.Applied && !b.late(b.Req) {
				return
			}
			n.Verdicts[c][a.Req.Item].Told = unknown
			b.Phase, b.Item, b.Mod, b.Req, b.Sent, b.Applied, b.Rep = settling, a.Req.Item, a.Req.Mod, request{}, false, false, reply{}
		})
	}
	m.visibility(s, c, fault)
}

// visibility ends the time of a delivery: its own process returns it, or, of a
// served session, anybody who consumes.
func (m *Queue) visibility(s *State, c int, fault func(search.Step, func(*Faults) *int8, func(*State))) {
	budget := func(f *Faults) *int8 { return &f.Visibility }
	a := &s.Consumers[c]
	if !m.cfg.Served {
		if a.Phase == holding {
			fault(search.Step{Act: actVisibility}, budget, func(n *State) {
				n.Consumers[c].request(request{Op: opReturn, Item: a.Item, Of: int8(c), Mod: a.Mod})
			})
		}
		return
	}
	if a.Phase != idle || a.Here == 0 {
		return
	}
	for i := range m.cfg.Items {
		if it := s.Items[i]; it.At == out {
			fault(search.Step{Act: actVisibility, Arg: int8(i)}, budget, func(n *State) {
				n.Consumers[c].request(request{Op: opOverdue, Item: int8(i), Of: it.By, Mod: it.Mod})
			})
		}
	}
}

// Describe implements search.Model.
func (m *Queue) Describe(st search.Step) string {
	who := fmt.Sprintf("consumer %d", st.Actor)
	if st.Actor >= producers {
		who = fmt.Sprintf("producer %d", st.Actor-producers)
	}
	request := [...]string{"", "enqueue", "arrive", "claim", "ack", "return", "inherit", "overdue", "tidy"}
	switch st.Act {
	case actSend:
		return fmt.Sprintf("%s sends %s", who, request[st.Arg])
	case actApply:
		return fmt.Sprintf("etcd applies %s of %s", request[st.Arg], who)
	case actAnswer:
		return fmt.Sprintf("%s hears the answer to %s", who, request[st.Arg])
	case actLate:
		return fmt.Sprintf("etcd applies a late %s of %s", request[st.Arg], who)
	case actLoseReply:
		return fmt.Sprintf("%s hears no answer to %s", who, request[st.Arg])
	}
	what := [...]string{"", "", "", "", "looks, and goes for item", "acks item", "nacks item", "notices that its session has ended", "'s lease ends",
		"returns item", "", "'s lease ends unnoticed", "stops", "meets a delivery whose time is over: item", "gives its ack up", "", "'s key is deleted by hand"}
	if st.Act == actDropOut {
		return fmt.Sprintf("the delivery of item %d is deleted by hand", st.Actor)
	}
	return fmt.Sprintf("%s %s %d", who, what[st.Act], st.Arg)
}
