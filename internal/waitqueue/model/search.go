package model

import (
	"fmt"
	"slices"
	"strings"
)

// Step identifies one transition of a model. It is cheap to make; its text is only built for a trace.
type Step struct {
	Actor int8
	Act   action
	Arg   int8
	Fault bool // taken from a budget: the protocol may not rely on it
}

// Model is a protocol, its clients and its faults as a transition system over the states S.
// A model may keep scratch space, so one value serves one search at a time.
type Model[S comparable] interface {
	// Start returns the only initial state.
	Start() S
	// Next calls emit for every step out of s. The pointer is only valid during the call.
	Next(s *S, emit func(Step, *S))
	// Canonical maps states that differ in nothing observable to one of them.
	Canonical(s *S)
	// Check returns what is wrong with s, or "".
	Check(s *S) string
	// Settled returns what is wrong with s if nothing but a fault can happen any more, or "".
	Settled(s *S) string
	// Describe says a step in words.
	Describe(Step) string
}

// Result tells what a search saw.
type Result struct {
	States, Steps int
	Settled       int      // states that nothing but a fault leaves
	Depth         int      // steps on the longest of the shortest paths
	Cut           bool     // the bound was reached before the end: nothing is proven
	Violation     string   // empty if every state is right
	Trace         []string // the shortest way to the violation
}

// String returns the figures, and after a violation its trace.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d states, %d steps, %d settled, depth %d", r.States, r.Steps, r.Settled, r.Depth)
	if r.Cut {
		b.WriteString(", cut at the bound")
	}
	if r.Violation == "" {
		return b.String()
	}
	fmt.Fprintf(&b, "\nviolation: %s", r.Violation)
	for i, line := range r.Trace {
		fmt.Fprintf(&b, "\n  %2d  %s", i+1, line)
	}
	return b.String()
}

type search[S comparable] struct {
	model Model[S]
	seen  *visited[S]
	next  *level[S]
	edges []edge
	ends  []uint32 // the settled states
	res   Result
	bad   uint32 // the number of the offending state, valid with res.Violation
}

// Search visits the states of m breadth first, at most bound of them, and stops at the first violation.
// The way to it is therefore a shortest one. At the end it makes sure that every state can still reach a settled
// one without a fault. It needs about 50 bytes a state, 12 a step, and the states of a level.
func Search[S comparable](m Model[S], bound int) Result {
	s := &search[S]{model: m, seen: newVisited[S]()}
	first := m.Start()
	m.Canonical(&first)
	id, _ := s.seen.add(&first, 0, 0)
	s.next = new(level[S])
	s.next.add(&first, id)
	for s.next.len() > 0 && s.res.Violation == "" && !s.res.Cut {
		now := s.next
		s.next = new(level[S])
		now.drain(func(e *entry[S]) bool {
			s.visit(e)
			s.res.Cut = s.seen.len() > bound
			return s.res.Violation == "" && !s.res.Cut
		})
		s.res.Depth++
	}
	s.next = nil // the frontier is the largest part, and is not needed any more
	s.res.States = s.seen.len()
	if s.res.Violation == "" && !s.res.Cut {
		if id, found := trapped(s.res.States, s.edges, s.ends); found {
			s.bad, s.res.Violation = id, "from here the clients can go on for ever, and never come to an end"
		}
	}
	if s.res.Violation != "" {
		s.res.Trace = s.trace()
	}
	return s.res
}

// visit expands one state of the frontier.
func (s *search[S]) visit(e *entry[S]) {
	moves, number := false, uint16(0)
	s.model.Next(&e.state, func(st Step, n *S) {
		moves = moves || !st.Fault
		mine := number
		number++
		if s.res.Violation != "" {
			return
		}
		s.res.Steps++
		s.model.Canonical(n)
		id, fresh := s.seen.add(n, e.id, mine)
		if !st.Fault {
			s.edges = append(s.edges, edge{e.id, id})
		}
		if !fresh {
			return
		}
		if s.res.Violation = s.model.Check(n); s.res.Violation != "" {
			s.bad = id
			return
		}
		s.next.add(n, id)
	})
	if moves || s.res.Violation != "" {
		return
	}
	s.res.Settled++
	s.ends = append(s.ends, e.id)
	if s.res.Violation = s.model.Settled(&e.state); s.res.Violation != "" {
		s.bad = e.id
	}
}

// trace runs the model again along the recorded steps, and writes them down this time.
func (s *search[S]) trace() []string {
	var way []uint16
	for id := s.bad; id != 0; {
		parent, step := s.seen.origin(id)
		way = append(way, step)
		id = parent
	}
	state := s.model.Start()
	s.model.Canonical(&state)
	lines := make([]string, 0, len(way))
	for _, want := range slices.Backward(way) {
		number := uint16(0)
		var after S
		s.model.Next(&state, func(st Step, n *S) {
			if number == want {
				after = *n
				lines = append(lines, s.model.Describe(st))
			}
			number++
		})
		s.model.Canonical(&after)
		state = after
	}
	return lines
}
