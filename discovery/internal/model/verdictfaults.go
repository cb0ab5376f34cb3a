package model

import (
	"slices"

	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

// faults are what may happen to the system.
func (m *Verdicts) faults(s *VerdictState, emit func(model.Step, *VerdictState)) {
	fault := func(act int, actor int8, budget func(*VerdictFaults) *int8, change func(n *VerdictState)) {
		if *budget(&s.Faults) == 0 {
			return
		}
		n := *s
		*budget(&n.Faults)--
		change(&n)
		st := model.Step{Actor: actor, Fault: true}
		switch act {
		case vFlip:
			st.Act = vFlip
		case vUpdate:
			st.Act = vUpdate
		case vExpire:
			st.Act = vExpire
		case vHandover:
			st.Act = vHandover
		case vLeaseLoss:
			st.Act = vLeaseLoss
		case vDelete:
			st.Act = vDelete
		case vUndefine:
			st.Act = vUndefine
		default:
			st.Act = vMark
		}
		emit(st, &n)
	}
	for v := range s.Truth {
		fault(vFlip, int8(v)+1, func(f *VerdictFaults) *int8 { return &f.Flip }, func(n *VerdictState) { n.Truth[v] = well + ill - n.Truth[v] })
	}
	fault(vUpdate, 0, func(f *VerdictFaults) *int8 { return &f.Update }, func(n *VerdictState) { n.Keeper.Wants = 3 - n.Keeper.Wants })
	if s.Owner != 0 {
		fault(vExpire, s.Owner, func(f *VerdictFaults) *int8 { return &f.Expire }, (*VerdictState).unown)
	}
	if h := s.Owner - 1; h >= 0 && s.Hosts[h].Own == s.OwnerRev {
		fault(vHandover, s.Owner, func(f *VerdictFaults) *int8 { return &f.Handover }, func(n *VerdictState) {
			// It stops before it lets go; a request of its may be under way.
			for k := range n.Late {
				if n.Late[k].Host == 0 {
					n.Late[k] = n.Hosts[h].Asked
					break
				}
			}
			n.Hosts[h] = Checker{}
			n.unown()
		})
	}
	if s.Patient.Rev == 0 {
		return
	}
	fault(vLeaseLoss, 0, func(f *VerdictFaults) *int8 { return &f.LeaseLoss }, func(n *VerdictState) { n.Rev++; n.Patient = Patient{} })
	fault(vDelete, 0, func(f *VerdictFaults) *int8 { return &f.Delete }, func(n *VerdictState) {
		n.Rev++
		n.Patient = Patient{Def: n.Patient.Def, DefVersion: n.Patient.DefVersion}
	})
	fault(vUndefine, 0, func(f *VerdictFaults) *int8 { return &f.Undefine }, func(n *VerdictState) { n.Rev++; n.Patient.Def, n.Patient.DefVersion = 0, 0 })
	fault(vMark, 0, func(f *VerdictFaults) *int8 { return &f.Mark }, func(n *VerdictState) { n.Rev++; n.Patient.Rev = n.Rev })
}

func (s *VerdictState) unown() { s.Rev++; s.Owner, s.OwnerRev = 0, 0 }

// Check returns what is wrong with a state.
func (m *Verdicts) Check(s *VerdictState) string {
	if s.Wrong {
		return "a verdict on one address stands at another"
	}
	return ""
}

// Settled returns what is wrong with a state in which only faults can happen: the
// record has to say what is true of the address that it names.
func (m *Verdicts) Settled(s *VerdictState) string {
	p := s.Patient
	switch {
	case p.Rev == 0 || p.Def == 0 || p.Version != s.Keeper.Wants || p.DefVersion != p.Version:
		return "what the registrar wants is not registered"
	case s.Owner == 0:
		return "nobody owns the check"
	case p.Health != s.Truth[p.Version-1]:
		return "the record says for ever what is not true"
	}
	return ""
}

// Canonical maps states that differ in nothing but the size of their revisions to
// one of them.
func (m *Verdicts) Canonical(s *VerdictState) {
	all := []int8{0}
	s.revisions(func(r *int8) { all = append(all, *r) })
	slices.Sort(all)
	all = slices.Compact(all)
	s.revisions(func(r *int8) {
		at, _ := slices.BinarySearch(all, *r)
		*r = int8(at) //nolint:gosec // there are few
	})
	slices.SortFunc(s.Late[:], func(a, b Verdict) int { return int(a.code() - b.code()) })
}

func (s *VerdictState) revisions(f func(*int8)) {
	for _, r := range []*int8{&s.Rev, &s.Patient.Rev, &s.Patient.Def, &s.OwnerRev, &s.Keeper.Rev} {
		f(r)
	}
	for h := range s.Hosts {
		c := &s.Hosts[h]
		for _, r := range []*int8{&c.Own, &c.Def, &c.Doubt, &c.Asked.Guard, &c.Asked.Own, &c.Asked.Def} {
			f(r)
		}
	}
	for k := range s.Late {
		v := &s.Late[k]
		for _, r := range []*int8{&v.Guard, &v.Own, &v.Def} {
			f(r)
		}
	}
}

func (v Verdict) code() int64 {
	return int64(v.Guard)<<40 | int64(v.Own)<<32 | int64(v.Def)<<24 | int64(v.Health)<<16 | int64(v.Version)<<8 | int64(v.Host)
}
