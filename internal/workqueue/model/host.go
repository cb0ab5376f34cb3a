package model

import search "github.com/conclavehq/conclave/internal/waitqueue/model"

// resume is a host's read of a delivery and of its session's key.
func (m *Queue) resume(s *State, who int, r request) reply {
	i := &s.Items[r.Item]
	switch {
	case i.At != out || int(i.By) != who || i.Mod != r.Mod:
		return reply{Code: codeRefused}
	case s.Here[who] == 0:
		return reply{Code: codeStands}
	}
	return reply{Code: codeDone, Mod: s.Here[who]}
}

// resumed is what the host does with what it read.
func (m *Queue) resumed(s *State, a *actor, c int, r request, rep reply) {
	switch {
	case rep.Code == codeDone, rep.Code == codeStands && !m.is(StaleWithoutHere):
		r.Op, r.Here = opAck, rep.Mod
		a.request(r)
	default:
		m.recall(s, c, r.Item, stale)
	}
}

// ended is what a host makes of the answer to an ack.
func (m *Queue) ended(s *State, c int, r request, rep reply, doubt bool) {
	gone := rep.Code == codeRefused || rep.Code == codeNoSession // and no note
	switch {
	case rep.Code == codeDone, rep.Code == codeRefused && doubt && m.is(NoteAtHosts):
		s.Verdicts[c][r.Item].Told = fine
	case gone && doubt && m.is(NoteAtHosts):
		s.Verdicts[c][r.Item].Told = unknown
	case doubt:
		m.recall(s, c, r.Item, unknown)
	default:
		m.recall(s, c, r.Item, stale)
	}
}

// recall looks into the history for what ended a delivery. What it does not tell is
// told as otherwise.
func (m *Queue) recall(s *State, c int, i int8, otherwise told) {
	v := &s.Verdicts[c][i]
	applied := s.Items[i].Effects > 0 && s.Items[i].Token == v.Token
	known := v.End&trailLost == 0 && (v.End&trailStood != 0 || m.is(HistoryWithoutStood))
	switch {
	case v.End&trailEnd != 0 && known && (v.End&trailPut == 0 || m.is(HistoryWithoutPuts)) && (v.End&trailHere == 0 || m.is(HistoryWithoutHere)):
		v.Told = fine
	case v.End&trailLost == 0 && v.End&(trailPut|trailHere) != 0:
		v.Told = stale
	case otherwise == stale && applied && known:
		s.Harm = harmLiar
	case otherwise == stale && applied:
		v.Told = forgotten
	default:
		v.Told = otherwise
	}
}

// leave writes into the history how a delivery ends.
func (m *Queue) leave(s *State, by, i, token int8, how trail) {
	if !m.cfg.Hosts {
		return
	}
	for c := range m.cfg.Consumers {
		if v := &s.Verdicts[c][i]; m.session(c) == int(by) && v.Token == token {
			v.End |= trailEnd | how
		}
	}
}

// standing is what the history has of a session's key, at an end that leaves it alone.
func (s *State) standing(who int8) trail {
	if s.Here[who] == 0 {
		return 0
	}
	return trailStood
}

// again is a caller that gives its call up, and calls at another host.
func (m *Queue) again(n *State, c int) {
	b := &n.Consumers[c]
	r := b.Req
	if r.Op == opAck && !b.Applied {
		b.late(r)
	}
	b.Doubt = false
	b.request(request{Op: opResume, Item: r.Item, Of: r.Of, Mod: r.Mod})
}

// compact takes the history of all deliveries.
func (m *Queue) compact(s *State, emit func(search.Step, *State)) {
	if s.Left.Compact == 0 {
		return
	}
	n := *s
	n.Left.Compact--
	for c := range m.cfg.Consumers {
		for i := range m.cfg.Items {
			if v := &n.Verdicts[c][i]; v.Token != 0 {
				v.End |= trailLost
			}
		}
	}
	emit(search.Step{Actor: remover, Act: actCompact, Fault: true}, &n)
}

// visibility ends the time of a delivery: its own process returns it, or, of a
// served session, anybody who consumes. One of the session may make it a dead letter.
func (m *Queue) visibility(s *State, c int, fault func(search.Step, func(*Faults) *int8, func(*State))) {
	budget := func(f *Faults) *int8 { return &f.Visibility }
	a := &s.Consumers[c]
	if !m.cfg.Served {
		end := func(i, mod int8) {
			fault(search.Step{Act: actVisibility, Arg: i}, budget, func(n *State) {
				n.Consumers[c].request(request{Op: opReturn, Item: i, Of: int8(m.session(c)), Mod: mod})
			})
		}
		if a.Phase == holding {
			end(a.Item, a.Mod)
		}
		for i, h := range a.Hands {
			if a.Phase == sorting && h.How == handFree && h.Mod != 0 {
				end(int8(i), h.Mod)
			}
		}
		return
	}
	if a.Phase != idle || a.Here == 0 {
		return
	}
	for i := range m.cfg.Items {
		it := s.Items[i]
		if it.At == out && int(it.By) == m.session(c) {
			fault(search.Step{Act: actBury, Arg: int8(i)}, func(f *Faults) *int8 { return &f.Bury }, func(n *State) {
				n.Consumers[c].request(request{Op: opBury, Item: int8(i), Of: it.By, Mod: it.Mod})
			})
		}
		if it.At == out {
			fault(search.Step{Act: actVisibility, Arg: int8(i)}, budget, func(n *State) {
				n.Consumers[c].request(request{Op: opOverdue, Item: int8(i), Of: it.By, Mod: it.Mod})
			})
		}
	}
}
