package model

import (
	"fmt"

	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

const hosts = 2

// A VerdictConfig says what is searched of the protocol of checks that hosts carry
// out: one instance with a check, its registrar, and two hosts.
type VerdictConfig struct {
	Faults VerdictFaults
	Defect VerdictDefect
}

// VerdictFaults are how often each may happen.
type VerdictFaults struct {
	Flip      int8 // what is checked becomes well, or ill
	Update    int8 // the registrar names another address
	Lose      int8 // the reply to a verdict is lost, and the request may arrive late
	Expire    int8 // a host loses what it owned, without noticing
	Handover  int8 // a host lets go of it
	LeaseLoss int8 // the registrar's lease is lost
	Delete    int8 // the record is deleted by hand
	Undefine  int8 // the definition is deleted by hand
	Mark      int8 // somebody else changes the record
}

// A VerdictDefect is a rule that is left out.
type VerdictDefect int

// The defects.
const (
	NoVerdictDefect VerdictDefect = iota
	NoFence                       // a verdict does not compare the ownership of the check
	NoDefinition                  // nor the definition that it is about
	NoRewrite                     // after a lost reply, a record that says what it should is left alone
	NoReconcile                   // a definition that was written again is no reason to look at the record
)

// What is known of health.
const (
	unknown int8 = iota
	well
	ill
)

// A Patient is the instance in etcd: its record, and its definition.
type Patient struct {
	Rev, Health, Version int8 // of the record; 0: absent
	Def, DefVersion      int8 // revision of the definition; 0: absent
}

// A Keeper is the instance's registrar.
type Keeper struct{ Rev, Health, Version, Wants int8 }

// A Verdict is a request to etcd.
type Verdict struct{ Host, Guard, Own, Def, Health, Version int8 }

// A Checker is a host.
type Checker struct {
	Own          int8 // the revision of what it believes it owns; 0: nothing
	Def, Version int8 // as it knows it
	Found        int8 // by its probes
	Dirty        bool // it has to look at the record
	Doubt        int8 // the revision that a request compares which may be late
	Asked        Verdict
}

// A VerdictState is one of the system.
type VerdictState struct {
	Rev      int8
	Patient  Patient
	Owner    int8 // the host, 1 to 2; 0: nobody
	OwnerRev int8
	Truth    [2]int8 // by version
	Keeper   Keeper
	Hosts    [hosts]Checker
	Late     [maxLate]Verdict
	Faults   VerdictFaults
	Wrong    bool // a verdict was written that is about another version
}

const (
	vTake = iota
	vAdopt
	vLearn
	vSee
	vProbe
	vRead
	vApply
	vLose
	vArrive
	vDrop
	vLook
	vPut
	vFlip
	vUpdate
	vExpire
	vHandover
	vLeaseLoss
	vDelete
	vUndefine
	vMark
)

var verdictTexts = [...]string{
	vTake: "host %d puts the owner's key", vAdopt: "host %d sees that the check is its own", vLearn: "host %d sees that it is not any more",
	vSee: "host %d sees the definition", vProbe: "host %d probes", vRead: "host %d reads the record", vApply: "the verdict of host %d is carried out and answered",
	vLose: "the reply to host %d is lost", vArrive: "late verdict %d arrives", vDrop: "late verdict %d is lost", vLook: "the registrar sees the record (%d)",
	vPut: "the registrar puts the record (%d)", vFlip: "what version %d names becomes well, or ill", vUpdate: "the registrar names another address (%d)",
	vExpire: "host %d loses the check, without noticing", vHandover: "host %d lets go of the check", vLeaseLoss: "the registrar's lease is lost (%d)",
	vDelete: "the record is deleted by hand (%d)", vUndefine: "the definition is deleted by hand (%d)", vMark: "somebody else writes the record (%d)",
}

// Verdicts is a configuration as a transition system; see [model.Search].
type Verdicts struct{ cfg VerdictConfig }

// NewVerdicts returns the model of a configuration.
func NewVerdicts(cfg VerdictConfig) *Verdicts { return &Verdicts{cfg} }

// Start returns the state in which the registrar has put the instance, and nobody
// has looked at it yet.
func (m *Verdicts) Start() VerdictState {
	return VerdictState{Rev: 1, Patient: Patient{Rev: 1, Version: 1, Def: 1, DefVersion: 1}, Truth: [2]int8{well, ill},
		Keeper: Keeper{Rev: 1, Version: 1, Wants: 1}, Faults: m.cfg.Faults}
}

// Describe says a step in words.
func (m *Verdicts) Describe(st model.Step) string { return fmt.Sprintf(verdictTexts[st.Act], st.Actor) }

// Next calls emit for every step out of s.
func (m *Verdicts) Next(s *VerdictState, emit func(model.Step, *VerdictState)) {
	for h := range int8(hosts) {
		m.host(s, h, emit)
	}
	for k := range s.Late {
		if s.Late[k].Host != 0 {
			dropped, arrived := *s, *s
			dropped.Late[k], arrived.Late[k] = Verdict{}, Verdict{}
			emit(model.Step{Actor: int8(k), Act: vDrop}, &dropped)
			m.apply(&arrived, s.Late[k])
			emit(model.Step{Actor: int8(k), Act: vArrive}, &arrived)
		}
	}
	m.keeper(s, emit)
	m.faults(s, emit)
}

// host are the steps of one host.
func (m *Verdicts) host(s *VerdictState, h int8, emit func(model.Step, *VerdictState)) {
	step := func(st model.Step, change func(n *VerdictState, c *Checker)) {
		n := *s
		change(&n, &n.Hosts[h])
		st.Actor = h + 1
		emit(st, &n)
	}
	c := s.Hosts[h]
	if s.Owner == 0 {
		step(model.Step{Act: vTake}, func(n *VerdictState, _ *Checker) { n.Rev++; n.Owner, n.OwnerRev = h+1, n.Rev })
	}
	switch {
	case c.Own == 0 && s.Owner == h+1:
		step(model.Step{Act: vAdopt}, func(n *VerdictState, c *Checker) { *c = Checker{Own: n.OwnerRev} })
	case c.Own != 0 && c.Own != s.OwnerRev:
		step(model.Step{Act: vLearn}, func(_ *VerdictState, c *Checker) { *c = Checker{} })
	}
	if c.Own == 0 {
		return
	}
	if c.Asked.Host != 0 {
		m.asked(s, h, step)
		return
	}
	if c.Def != s.Patient.Def && s.Patient.Def != 0 {
		step(model.Step{Act: vSee}, func(n *VerdictState, c *Checker) {
			p := n.Patient
			if c.Version != p.DefVersion {
				c.Found = unknown
			}
			c.Dirty = c.Dirty || m.cfg.Defect != NoReconcile
			c.Def, c.Version = p.Def, p.DefVersion
		})
	}
	if c.Def != 0 && c.Found != s.Truth[c.Version-1] {
		step(model.Step{Act: vProbe}, func(n *VerdictState, c *Checker) { c.Found, c.Dirty = n.Truth[c.Version-1], true })
	}
	if c.Dirty && c.Found != unknown {
		step(model.Step{Act: vRead}, func(n *VerdictState, c *Checker) { m.read(n, h) })
	}
}

// read looks at the record, and makes a request if there is a reason to.
func (m *Verdicts) read(s *VerdictState, h int8) {
	c, p := &s.Hosts[h], s.Patient
	inDoubt := p.Rev == c.Doubt && m.cfg.Defect != NoRewrite
	if p.Rev == 0 || p.Health == c.Found && !inDoubt {
		c.Dirty = false
		return
	}
	c.Asked = Verdict{Host: h + 1, Guard: p.Rev, Own: c.Own, Def: c.Def, Health: c.Found, Version: c.Version}
}

// asked are the steps of a host that waits for an answer.
func (m *Verdicts) asked(s *VerdictState, h int8, step func(model.Step, func(*VerdictState, *Checker))) {
	step(model.Step{Act: vApply}, func(n *VerdictState, c *Checker) {
		if m.apply(n, c.Asked) {
			c.Dirty = false
		} else if n.Patient.Def != c.Def {
			c.Dirty = false // the definition's next event is a reason to look again
		}
		c.Asked = Verdict{}
	})
	for k := range s.Late {
		if s.Late[k].Host == 0 && s.Faults.Lose > 0 {
			step(model.Step{Act: vLose, Fault: true}, func(n *VerdictState, c *Checker) {
				n.Faults.Lose--
				n.Late[k], c.Doubt, c.Asked = c.Asked, c.Asked.Guard, Verdict{}
			})
			return
		}
	}
}

// apply carries out a verdict, and reports whether its guards held.
func (m *Verdicts) apply(s *VerdictState, v Verdict) bool {
	p := &s.Patient
	switch {
	case p.Rev == 0 || p.Rev != v.Guard:
		return false
	case m.cfg.Defect != NoFence && s.OwnerRev != v.Own:
		return false
	case m.cfg.Defect != NoDefinition && p.Def != v.Def:
		return false
	}
	s.Rev++
	s.Wrong = s.Wrong || p.Version != v.Version
	p.Rev, p.Health = s.Rev, v.Health
	return true
}

// keeper are the steps of the registrar.
func (m *Verdicts) keeper(s *VerdictState, emit func(model.Step, *VerdictState)) {
	k, p := s.Keeper, s.Patient
	switch {
	case k.Rev != p.Rev:
		n := *s
		n.Keeper.Rev = p.Rev
		if p.Rev != 0 {
			n.Keeper.Health = p.Health
		}
		emit(model.Step{Act: vLook}, &n)
	case p.Rev == 0 || p.Def == 0 || k.Version != k.Wants:
		n := *s
		n.Rev++
		n.Keeper.Version, n.Keeper.Rev = k.Wants, n.Rev
		n.Patient = Patient{Rev: n.Rev, Health: k.Health, Version: k.Wants, Def: n.Rev, DefVersion: k.Wants}
		emit(model.Step{Act: vPut}, &n)
	}
}
