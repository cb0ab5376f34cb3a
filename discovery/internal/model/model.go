// Package model checks the protocol of registrations by exhaustive search: several
// registrations of one instance, in processes of their own, on one key. Replies are
// lost, requests arrive late, leases are lost, keys are deleted by hand and farewells
// expire, each as often as a configuration allows.
//
// It is the model of docs/protocol-discovery.md and of discovery's place.go. A
// [Defect] takes one rule out; the tests fail if the search does not find the harm.
package model

import (
	"fmt"

	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

// maxRegs and maxLate bound the registrations and the requests on their way.
const (
	maxRegs = 3
	maxLate = 2
)

// Config says what is searched.
type Config struct {
	Regs   int // registrations, at most 3
	Faults Faults
	Defect Defect
	// NoFarewell lets registrations end with a deletion, as in a full etcd.
	NoFarewell bool
	// Stay keeps registrations from being deregistered.
	Stay bool
}

// Faults are how often each may happen.
type Faults struct{ Lose, LeaseLoss, Delete int8 }

// A Defect is a rule that is left out.
type Defect int

// The defects.
const (
	None           Defect = iota
	NoIncarnations        // whoever finds another's record replaces it
	NoSweep               // nobody looks for requests that arrived late
	IncOfWrite            // the incarnation is the revision of the first write, and not read before it
)

// phase is what a registration is about.
type phase int8

const (
	idle       phase = iota // not asked for yet
	putting                 // a put is under way
	standing                // etcd has it, as far as it knows
	leaving                 // a farewell is under way
	gone                    // it was deregistered
	superseded              // a later one took its place
)

// A Reg is a registration.
type Reg struct {
	Phase     phase
	Inc, Rev  int8
	Lease     int8 // the generation of its process's lease
	Known     bool // a write of it was seen to succeed
	Uncertain bool
}

// A Key is what stands in etcd.
type Key struct {
	Reg   int8 // 1 to n, 0: nothing
	Left  bool
	Inc   int8
	Rev   int8
	Lease int8
}

// A Request may still arrive.
type Request struct {
	Reg   int8 // 1 to n, 0: none
	Leave bool
	First bool // no write of the registration was seen to succeed yet
	Guard int8
	Inc   int8
	Lease int8
}

// A State is one of the system.
type State struct {
	Rev    int8
	Key    Key
	Regs   [maxRegs]Reg
	Late   [maxLate]Request
	Faults Faults
}

const (
	actRegister = iota
	actApply
	actLose
	actArrive
	actDrop
	actLeave
	actLook
	actLease
	actDelete
	actExpire
	actSweep
)

var texts = [...]string{
	actRegister: "registration %d is asked for", actApply: "the request of %d is applied and answered", actLose: "the request of %d is given up",
	actArrive: "late request %d arrives", actDrop: "late request %d is lost", actLeave: "registration %d is deregistered", actLook: "registration %d looks at its key",
	actLease: "the lease of %d is lost", actDelete: "the key is deleted by hand (%d)", actExpire: "the farewell expires (%d)", actSweep: "the process of %d sweeps its lease",
}

// A Model is a configuration as a transition system; see [model.Search].
type Model struct{ cfg Config }

// New returns the model of a configuration.
func New(cfg Config) *Model { return &Model{cfg} }

// Start returns the state with nothing registered.
func (m *Model) Start() State { return State{Rev: 1, Faults: m.cfg.Faults} }

// Describe says a step in words.
func (m *Model) Describe(st model.Step) string { return fmt.Sprintf(texts[st.Act], st.Actor) }

// Next calls emit for every step out of s.
func (m *Model) Next(s *State, emit func(model.Step, *State)) {
	for i := range int8(m.cfg.Regs) {
		m.own(s, i, emit)
	}
	for k := range s.Late {
		if s.Late[k].Reg != 0 {
			dropped, arrived := *s, *s // emit changes what it gets
			dropped.Late[k], arrived.Late[k] = Request{}, Request{}
			emit(model.Step{Actor: int8(k), Act: actDrop}, &dropped)
			arrived.apply(s.Late[k], m.cfg)
			emit(model.Step{Actor: int8(k), Act: actArrive}, &arrived)
		}
	}
	if s.Key.Reg != 0 && s.Key.Left {
		n := *s
		n.clear()
		emit(model.Step{Act: actExpire}, &n)
	}
	if s.Key.Reg != 0 && s.Faults.Delete > 0 {
		n := *s
		n.Faults.Delete--
		n.clear()
		emit(model.Step{Act: actDelete, Fault: true}, &n)
	}
}

// own are the steps of one registration.
func (m *Model) own(s *State, i int8, emit func(model.Step, *State)) {
	step := func(st model.Step, change func(n *State, r *Reg)) {
		n := *s
		change(&n, &n.Regs[i])
		st.Actor = i + 1
		emit(st, &n)
	}
	r := s.Regs[i]
	switch r.Phase {
	case idle:
		step(model.Step{Act: actRegister}, func(n *State, r *Reg) { r.Phase, r.Inc = putting, n.Rev })
	case putting, leaving:
		step(model.Step{Act: actApply}, func(n *State, _ *Reg) { m.answer(n, i) })
		if k := s.free(); s.Faults.Lose > 0 && k >= 0 {
			step(model.Step{Act: actLose, Fault: true}, func(n *State, r *Reg) {
				n.Faults.Lose--
				n.Late[k] = r.request(i)
				r.Uncertain = r.Uncertain || r.Phase == putting
			})
		}
	case standing:
		if !m.cfg.Stay {
			step(model.Step{Act: actLeave}, func(_ *State, r *Reg) { r.Phase = leaving })
		}
		if s.Key.Rev != r.Rev {
			step(model.Step{Act: actLook}, func(n *State, r *Reg) {
				r.Phase = putting
				m.see(n, i)
			})
		}
	case gone, superseded:
		if k := s.Key; k.Reg == i+1 && !k.Left && k.Lease == r.Lease && m.cfg.Defect != NoSweep {
			step(model.Step{Act: actSweep}, func(n *State, _ *Reg) { n.clear() })
		}
	}
	if r.Phase != idle && s.Faults.LeaseLoss > 0 {
		step(model.Step{Act: actLease, Fault: true}, func(n *State, r *Reg) {
			n.Faults.LeaseLoss--
			if n.Key.Reg == i+1 && !n.Key.Left && n.Key.Lease == r.Lease {
				n.clear()
			}
			r.Lease++
			if r.Phase == standing {
				r.Phase = putting
			}
		})
	}
}

// request is what a registration has under way.
func (r *Reg) request(i int8) Request {
	return Request{Reg: i + 1, Leave: r.Phase == leaving, First: !r.Known, Guard: r.Rev, Inc: r.Inc, Lease: r.Lease}
}

// free returns the place of a request that may be late, -1 if there is none.
func (s *State) free() int {
	for k := range s.Late {
		if s.Late[k].Reg == 0 {
			return k
		}
	}
	return -1
}

func (s *State) clear() {
	s.Rev++
	s.Key = Key{}
}

// apply carries out a request, and reports whether its guard held.
func (s *State) apply(q Request, cfg Config) bool {
	if s.Key.Rev != q.Guard {
		return false
	}
	if !q.Leave && q.Lease != s.Regs[q.Reg-1].Lease {
		return false // its lease is gone
	}
	s.Rev++
	s.Key = Key{Reg: q.Reg, Left: q.Leave, Inc: q.Inc, Rev: s.Rev, Lease: q.Lease}
	if q.First && cfg.Defect == IncOfWrite {
		s.Key.Inc = s.Rev
	}
	if q.Leave && cfg.NoFarewell {
		s.Key = Key{}
	}
	return true
}

// answer carries out what a registration has under way, and tells it.
func (m *Model) answer(s *State, i int8) {
	r := &s.Regs[i]
	q := r.request(i)
	if s.apply(q, m.cfg) {
		r.Rev = s.Key.Rev
		switch {
		case q.Leave:
			r.Phase = gone
		default:
			r.Phase, r.Known, r.Inc = standing, true, s.Key.Inc
		}
		return
	}
	m.see(s, i)
}

// see is place.see, and what the caller makes of it.
func (m *Model) see(s *State, i int8) {
	r, k := &s.Regs[i], s.Key
	mine := k.Reg == i+1 && !k.Left
	r.Rev = k.Rev
	switch {
	case k.Reg == 0, k.Reg == i+1 && k.Left:
	case mine:
		if !r.Known && m.cfg.Defect == IncOfWrite {
			r.Inc = k.Inc
		}
		r.Known = true
	case !r.Known:
		r.Inc = s.Rev
	case m.cfg.Defect != NoIncarnations && (k.Inc > r.Inc || k.Inc == r.Inc && k.Reg > i+1):
		r.Phase = superseded
		return
	}
	switch {
	case r.Phase == leaving && (k.Reg == 0 && !r.Uncertain || k.Reg != 0 && !mine):
		r.Phase = gone
	case r.Phase == putting && mine && k.Lease == r.Lease && k.Inc == r.Inc:
		r.Phase = standing
	}
}
