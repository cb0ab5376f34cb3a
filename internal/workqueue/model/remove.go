package model

import search "github.com/conclavehq/conclave/internal/waitqueue/model"

// remover comes after the producers among the actors.
const remover = producers + maxItems

// prepare reads what an enqueue compares.
func (m *Queue) prepare(s *State, p int) request {
	r := request{Op: opEnqueue, Item: int8(p), Mod: s.Removed, Segment: m.segment(s)}
	if s.Listed {
		r.Of = 1
	}
	return r
}

// enqueue puts an item.
func (m *Queue) enqueue(s *State, r request) reply {
	i := &s.Items[r.Item]
	switch {
	case r.Mod != s.Removed && !m.is(EnqueueUnguarded), !m.opens(s, r):
		return reply{Code: codeRefused}
	case i.Dedup && !m.is(DedupIgnored):
		return reply{Code: codeFound}
	}
	s.Rev++
	if i.At != nowhere {
		s.Harm = harmTwice
	}
	*i = item{At: ready, Mod: s.Rev, Puts: i.Puts + 1, Dedup: true, Effects: i.Effects, Token: i.Token}
	if m.cfg.Remove != Kept && r.Of == 0 {
		s.Listed = true
	}
	if m.cfg.Lanes {
		i.Segment, s.Lane = r.Segment, r.Segment
	}
	return reply{Code: codeDone}
}

// enqueued is what a producer does with an answer.
func (m *Queue) enqueued(s *State, a *actor, p int, rep reply, doubt bool) {
	if rep.Code == codeRefused {
		a.Doubt = doubt
		m.enqueueAgain(s, a, p)
		return
	}
	*a = actor{Phase: over, Late: a.Late}
	s.Enqueued[p] = fine
}

// enqueueAgain sends what was refused, or what is in doubt; not what is in doubt if
// the dedup key may have been forgotten meanwhile.
func (m *Queue) enqueueAgain(s *State, a *actor, p int) {
	if a.Doubt && a.Mod != s.Removed && !m.is(RepeatedAcross) {
		*a = actor{Phase: over, Late: a.Late}
		s.Enqueued[p] = unknown
		return
	}
	r := m.prepare(s, p)
	if m.is(ListedForGood) {
		r.Of = 1
	}
	a.request(r)
}

// remove is what a removal does next: one request at a time.
func (m *Queue) remove(s *State, emit func(search.Step, *State)) {
	if m.cfg.Remove == Kept || s.Remover.Phase != idle {
		return
	}
	send := func(r request) {
		n := *s
		if n.Remover.request(r); r.Op == opForget {
			n.Left.Forget--
		}
		emit(search.Step{Actor: remover, Act: actRemove, Arg: int8(r.Op)}, &n)
	}
	if m.cfg.Remove == Forced {
		for i := range m.cfg.Items {
			it := &s.Items[i]
			switch it.At {
			case ready, buried:
				send(request{Op: opDrop, Item: int8(i)})
			case out:
				send(request{Op: opDropOut, Item: int8(i), Of: it.By})
			}
		}
		for d, rev := range s.Outs {
			if rev != 0 {
				send(request{Op: opDropAll, Of: int8(d)})
			}
		}
		if s.Left.Forget > 0 {
			send(request{Op: opForget})
		}
	}
	if m.there(s) && (m.empty(s) || m.is(RemoveUnguarded)) && (m.cfg.Remove == Forced || m.unused(s) || m.is(RemoveAmongUsers)) {
		send(request{Op: opRemove})
	}
}

// there tells whether there is a queue.
func (m *Queue) there(s *State) bool { return s.Listed || !m.empty(s) }

// empty tells whether nothing is in the queue, nor in that of its dead letters.
func (m *Queue) empty(s *State) bool {
	for i := range m.cfg.Items {
		if at := s.Items[i].At; at == ready || at == out || at == buried || at == bundled && !m.is(RemoveMindsSingles) {
			return false
		}
	}
	return true
}

func (m *Queue) unused(s *State) bool { return s.Here == [maxConsumers]int8{} }

// dropped applies a request of a removal.
func (m *Queue) dropped(s *State, r request) reply {
	i := &s.Items[r.Item]
	switch r.Op {
	case opDrop:
		if i.At == ready || i.At == buried {
			s.Rev++
			i.At, i.Mod, i.Segment = dropped, 0, 0
		}
	case opDropOut:
		m.dropOut(s, r)
	case opDropAll:
		m.dropAll(s, r)
	case opForget:
		s.Rev++
		m.forget(s)
		if !m.is(ForgottenUnseen) {
			s.Removed = s.Rev
		}
	case opRemove:
		if !m.empty(s) && !m.is(RemoveUnguarded) || m.cfg.Remove == Empty && !m.unused(s) && !m.is(RemoveAmongUsers) {
			return reply{Code: codeRefused}
		}
		s.Rev++
		s.Removed, s.Listed = s.Rev, false
		m.forget(s)
		if m.cfg.Remove == Empty {
			s.Work = [maxConsumers]bool{}
		}
		if m.is(LanesAnew) {
			s.Lane, s.Head = 0, 0
		}
	}
	return reply{Code: codeDone}
}

// dropOut deletes a delivery, if there is one, and its session's key in any case.
func (m *Queue) dropOut(s *State, r request) {
	i := &s.Items[r.Item]
	s.Rev++
	stood := s.Here[r.Of] != 0
	if !m.is(DropKeepsHere) {
		s.Here[r.Of] = 0
	}
	if i.At != out || i.By != r.Of {
		return
	}
	how := trail(0)
	if stood {
		how |= trailStood
	}
	if stood && s.Here[r.Of] == 0 {
		how |= trailHere
	}
	m.leave(s, r.Of, r.Item, i.Mod, how)
	i.At, i.Mod, i.Of = dropped, 0, 0
	s.Notes[r.Of][r.Item] = false
}

func (m *Queue) forget(s *State) {
	for i := range m.cfg.Items {
		s.Items[i].Dedup = false
	}
}
