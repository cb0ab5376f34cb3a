package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

var etcd *coretest.Etcd

// The endpoint reaches a child in its environment.
const endpointVar = "SCHEDULER_ENDPOINT"

func TestMain(m *testing.M) {
	coretest.Main(m, &etcd, coretest.WithChildren(map[string]func() int{"scheduler": child}))
}

// child is a process of its own.
func child() int {
	if err := serve(context.Background(), []string{os.Getenv(endpointVar)}, 20*time.Millisecond, 5*time.Second, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Three processes run the scheduler. The one that leads is killed, and then the next
// one: at every moment one of them schedules, and no run is begun twice.
func TestOneOfThreeProcessesSchedules(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	session, err := core.NewSession(ctx, etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	processes := make(map[int]*coretest.Process)
	for range 3 {
		p := coretest.Child(t, "scheduler", endpointVar+"="+etcd.Endpoint())
		processes[p.Pid()] = p
	}
	var runs int64
	var last core.Token
	led := make(map[int]bool)
	for l, err := range election.New(session, "scheduler").Observe(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Vacant() {
			continue
		}
		leader := processes[l.PID]
		if leader == nil || led[l.PID] || l.Token <= last {
			t.Fatalf("%+v leads after the token %d", l, last)
		}
		led[l.PID], last = true, l.Token
		for range 3 { // each counts on from where the one before stopped
			var run, token int64
			if _, err := fmt.Sscanf(leader.ExpectLine("run "), "%d token %d", &run, &token); err != nil {
				t.Fatal(err)
			}
			if run <= runs || core.Token(token) != l.Token {
				t.Errorf("run %d with token %d, after run %d in the term %d", run, token, runs, l.Token)
			}
			runs = run
		}
		if len(led) == len(processes) {
			break
		}
		leader.Kill()
		for _, line := range leader.Output() { // what it ran until it died
			var run int64
			if _, err := fmt.Sscanf(line, "run %d", &run); err == nil {
				runs = max(runs, run)
			}
		}
	}
	begun := make(map[string]bool)
	for _, p := range processes {
		for _, line := range p.Output() {
			if run, _, ok := strings.Cut(line, " token "); ok && begun[run] {
				t.Errorf("%s was begun twice", run)
			} else {
				begun[run] = true
			}
		}
	}
}

// A leader that was replaced and does not know begins nothing.
func TestAReplacedLeaderBeginsNothing(t *testing.T) {
	client := etcd.Client(t)
	session, err := core.NewSession(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	e := election.New(session, "replaced")
	term, err := e.Campaign(t.Context(), "first")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Delete(t.Context(), "/conclave/default/election/replaced/grant"); err != nil { // behind its back
		t.Fatal(err)
	}
	s := &scheduler{client: client}
	if run, err := s.begin(t.Context(), term); !errors.Is(err, election.ErrLost) {
		t.Errorf("run %d begins: %v", run, err)
	}
}
