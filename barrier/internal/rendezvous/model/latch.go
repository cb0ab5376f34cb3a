package model

import (
	"fmt"

	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

// The bounds of a latch's configuration.
const (
	maxCounters   = 4
	maxOperations = 4
	maxResets     = 2
)

// LatchConfig is one configuration of [Latch].
type LatchConfig struct {
	Count  int8
	Calls  []int8 // the operation of each CountDown; one that occurs twice is repeated by another process
	Resets int8   // how often it may be reset
	Await  bool   // somebody waits, from the beginning
	Faults LatchFaults
	Defect LatchDefect
}

// LatchFaults are the budgets of a latch's configuration.
type LatchFaults struct {
	LoseReply int8
	Crash     int8 // of one who counts
}

// LatchDefect takes a guard or a step out of the protocol.
type LatchDefect int8

// The defects of [Latch].
const (
	LatchCorrect LatchDefect = iota
	CountIgnoresState
	CountIgnoresOperation
	OpenIgnoresState
	NobodyElseOpens
)

// call is a CountDown or a reset on its way: first it counts, then it opens.
type call struct {
	Phase   callPhase
	V, G    int8 // the version and generation that its request names
	Open    bool // the request under way opens the latch
	Sent    bool
	Applied bool
	OK      bool // the reply
	Left    int8
	RV      int8
	Late    [maxLate]lateCall
}

type callPhase int8

const (
	callIdle callPhase = iota
	callBusy
	callDone
	callCrashed
)

type lateCall struct {
	V, G int8
	Open bool
	Is   bool
}

// LatchState is the store and the calls.
type LatchState struct {
	Ver, G  int8
	Opened  bool
	Ops     int8 // of the present generation, as a set
	Done    [maxResets + 2]bool
	Counted [maxResets + 2][maxOperations]int8 // how often an operation counted in a generation
	Calls   [maxCounters]call
	Resets  int8
	Heard   int8 // the version that the waiter knows
	Waits   bool
	Faults  LatchFaults
	Harm    string
}

// Latch is a latch with those who count and one who waits.
type Latch struct {
	cfg     LatchConfig
	scratch LatchState
}

// NewLatch returns the model of a configuration. The latch is begun.
func NewLatch(cfg LatchConfig) *Latch { return &Latch{cfg: cfg} }

// Start implements [model.Model].
func (m *Latch) Start() LatchState {
	return LatchState{Ver: 1, G: 1, Faults: m.cfg.Faults, Resets: m.cfg.Resets, Waits: m.cfg.Await}
}

// The actions of a latch.
const (
	latchCall int8 = iota
	latchApply
	latchAnswer
	latchApplyLate
	latchLoseLate
	latchReset
	latchLook
	latchHear
	latchLose
	latchCrash
)

var latchText = [...]string{
	latchCall: "counts down", latchApply: "the store applies its request", latchAnswer: "gets the reply",
	latchApplyLate: "the store applies a late copy", latchLoseLate: "a late copy is lost for good", latchReset: "resets the latch",
	latchLook: "waits, looks, and opens the latch", latchHear: "hears of the state", latchLose: "gives up on a reply (fault)",
	latchCrash: "crashes (fault)",
}

// Describe implements [model.Model].
func (m *Latch) Describe(st model.Step) string {
	return fmt.Sprintf("call %d %s", st.Actor+1, latchText[st.Arg])
}

// Next implements [model.Model].
func (m *Latch) Next(s *LatchState, emit func(model.Step, *LatchState)) {
	do := func(actor int, act int8, fault bool, f func(s *LatchState)) {
		m.scratch = *s
		f(&m.scratch)
		emit(model.Step{Actor: int8(actor), Arg: act, Fault: fault}, &m.scratch)
	}
	for i := range m.cfg.Calls {
		m.steps(s, i, do)
	}
	if s.Resets > 0 && s.Opened {
		do(0, latchReset, true, func(s *LatchState) {
			s.Resets--
			s.Ver, s.G, s.Opened, s.Ops = s.Ver+1, s.G+1, false, 0
		})
	}
	if s.Waits && s.Heard < s.Ver && s.Ver > 1 {
		do(0, latchHear, false, func(s *LatchState) { s.Heard, s.Waits = s.Ver, false })
	}
	if s.Waits && !s.Opened && size(s.Ops) >= m.cfg.Count && m.cfg.Defect != NobodyElseOpens && m.abandoned(s) {
		do(0, latchLook, false, func(s *LatchState) { m.open(s, s.Ver, s.G) })
	}
}

// abandoned tells whether nobody is about to open the latch: only then is a look
// needed, and elsewhere it would hide whose part it is.
func (m *Latch) abandoned(s *LatchState) bool {
	for i := range m.cfg.Calls {
		if s.Calls[i].Phase == callBusy {
			return false
		}
	}
	return true
}

func (m *Latch) steps(s *LatchState, i int, do func(int, int8, bool, func(*LatchState))) {
	c := &s.Calls[i]
	if c.Phase == callIdle {
		do(i, latchCall, false, func(s *LatchState) { m.begin(s, i, s.Ver, s.G, s.Opened) })
	}
	if c.Phase == callBusy && c.Sent && !c.Applied {
		do(i, latchApply, false, func(s *LatchState) {
			c := &s.Calls[i]
			c.Applied = true
			c.OK, c.Left = m.apply(s, i, c.V, c.G, c.Open)
			c.RV = s.Ver
		})
	}
	if c.Phase == callBusy && c.Applied {
		do(i, latchAnswer, false, func(s *LatchState) { m.answer(s, i) })
	}
	for k, l := range c.Late {
		if !l.Is {
			continue
		}
		do(i, latchApplyLate, false, func(s *LatchState) {
			s.Calls[i].Late[k] = lateCall{}
			m.apply(s, i, l.V, l.G, l.Open)
		})
		do(i, latchLoseLate, false, func(s *LatchState) { s.Calls[i].Late[k] = lateCall{} })
	}
	if s.Faults.LoseReply > 0 && c.Phase == callBusy {
		do(i, latchLose, true, func(s *LatchState) {
			s.Faults.LoseReply--
			c := &s.Calls[i]
			c.lose()
			c.Applied = false
		})
	}
	if s.Faults.Crash > 0 && c.Phase == callBusy {
		do(i, latchCrash, true, func(s *LatchState) {
			s.Faults.Crash--
			c := &s.Calls[i]
			c.lose()
			*c = call{Phase: callCrashed, Late: c.Late}
		})
	}
}

func (c *call) lose() {
	if c.Applied {
		return
	}
	for k := range c.Late {
		if !c.Late[k].Is {
			c.Late[k] = lateCall{V: c.V, G: c.G, Open: c.Open, Is: true}
			return
		}
	}
}

// begin sends a Count of the version that is known; an open latch needs none.
func (m *Latch) begin(s *LatchState, i int, v, g int8, opened bool) {
	c := &s.Calls[i]
	if opened || c.G > 0 && c.G != g { // the generation that it was sent to is at zero
		c.Phase = callDone
		return
	}
	c.Phase, c.V, c.G, c.Open, c.Sent, c.Applied = callBusy, v, g, false, true, false
}

func (m *Latch) apply(s *LatchState, i int, v, g int8, open bool) (ok bool, left int8) {
	if open {
		return m.open(s, v, g), 0
	}
	op := m.cfg.Calls[i]
	same := s.Ver == v || m.cfg.Defect == CountIgnoresState
	if same && (!has(s.Ops, int(op)) || m.cfg.Defect == CountIgnoresOperation) && !s.Opened {
		s.Ops |= 1 << op
		if s.Counted[s.G][op]++; s.Counted[s.G][op] > 1 {
			s.Harm = "an operation counted twice"
		}
		if g != s.G {
			s.Harm = "a late request counted in another generation"
		}
	}
	return s.Ver == v, max(0, m.cfg.Count-size(s.Ops))
}

func (m *Latch) open(s *LatchState, v, g int8) bool {
	if s.Ver != v && m.cfg.Defect != OpenIgnoresState {
		return false
	}
	if g != s.G || s.Opened {
		s.Harm = "a latch opened that was not at zero"
		return false
	}
	s.Ver, s.Opened, s.Done[s.G], s.Ops = s.Ver+1, true, true, 0
	return true
}

func (m *Latch) answer(s *LatchState, i int) {
	c := &s.Calls[i]
	c.Sent, c.Applied = false, false
	switch {
	case c.Open: // if it was refused, somebody else did it
		c.Phase = callDone
	case !c.OK:
		m.begin(s, i, s.Ver, s.G, s.Opened)
	case c.Left == 0:
		c.Open, c.Sent = true, true
	default:
		c.Phase = callDone
	}
}

// Canonical implements [model.Model].
func (m *Latch) Canonical(s *LatchState) {
	for i := range s.Calls {
		c := &s.Calls[i]
		if c.Phase == callDone {
			*c = call{Phase: callDone, Late: c.Late}
		}
		for k, l := range c.Late {
			if l.Is && l.V != s.Ver && m.cfg.Defect == LatchCorrect {
				c.Late[k] = lateCall{}
			}
		}
	}
}

// Check implements [model.Model].
func (m *Latch) Check(s *LatchState) string {
	if s.Harm != "" {
		return s.Harm
	}
	for g := 1; g < len(s.Done); g++ {
		n := int8(0)
		for _, times := range s.Counted[g] {
			n += min(1, times)
		}
		if s.Done[g] && n < m.cfg.Count {
			return fmt.Sprintf("generation %d opened after %d operations", g, n)
		}
	}
	return ""
}

// Settled implements [model.Model].
func (m *Latch) Settled(s *LatchState) string {
	for i := range m.cfg.Calls {
		if p := s.Calls[i].Phase; p != callDone && p != callCrashed {
			return fmt.Sprintf("call %d is stuck", i+1)
		}
	}
	if s.Waits && !s.Opened && size(s.Ops) >= m.cfg.Count {
		return "all were counted, and somebody waits"
	}
	return ""
}
