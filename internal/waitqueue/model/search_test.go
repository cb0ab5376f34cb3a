package model

import (
	"fmt"
	"strings"
	"testing"
)

// wheel counts up to a number by one or by two. It may be told to break, to stop early, or to go round for ever.
type wheel struct {
	to, bad, stop, loop int32
}

func (w wheel) Start() int32 { return 0 }

func (w wheel) Next(s *int32, emit func(Step, *int32)) {
	move := func(by int32) {
		n := *s + by
		if *s == w.loop {
			n = *s
		}
		emit(Step{Arg: int8(by)}, &n)
	}
	if *s >= w.to || *s == w.stop {
		return
	}
	move(1)
	move(2)
}

func (w wheel) Canonical(s *int32) { *s = min(*s, w.to) }

func (w wheel) Check(s *int32) string {
	if *s == w.bad {
		return "broken"
	}
	return ""
}

func (w wheel) Settled(s *int32) string {
	if *s < w.to {
		return "stopped early"
	}
	return ""
}

func (w wheel) Describe(st Step) string { return fmt.Sprintf("by %d", st.Arg) }

// round is a wheel with nothing wrong.
func round(to int32) wheel { return wheel{to: to, bad: -1, stop: -1, loop: -1} }

func TestSearchVisitsEverything(t *testing.T) {
	r := Search(round(20_000), 1_000_000)
	if r.Violation != "" || r.Cut || r.States != 20_001 || r.Steps != 40_000 || r.Settled != 1 {
		t.Fatal(r)
	}
}

func TestSearchFindsAShortestTrace(t *testing.T) {
	w := round(100)
	w.bad = 7
	r := Search(w, 1000)
	if r.Violation != "broken" || len(r.Trace) != 4 {
		t.Fatal(r)
	}
	if text := r.String(); !strings.Contains(text, "violation: broken\n   1  by ") {
		t.Fatal(text)
	}
}

func TestSearchFindsAnEarlyEnd(t *testing.T) {
	w := round(100)
	w.stop = 5
	if r := Search(w, 1000); r.Violation != "stopped early" || len(r.Trace) != 3 {
		t.Fatal(r)
	}
}

func TestSearchFindsATrap(t *testing.T) {
	w := round(100)
	w.loop = 5
	if r := Search(w, 1000); !strings.Contains(r.Violation, "for ever") || len(r.Trace) != 3 {
		t.Fatal(r)
	}
}

func TestSearchSaysThatItWasCut(t *testing.T) {
	r := Search(round(20_000), 100)
	if !r.Cut || !strings.Contains(r.String(), "cut") {
		t.Fatal(r)
	}
}
