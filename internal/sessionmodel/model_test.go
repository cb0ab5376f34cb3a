package sessionmodel

import (
	"os"
	"testing"
	"time"

	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

// bound is more states than any configuration has.
const bound = 40_000_000

// size says when a configuration is searched.
type size int

const (
	small  size = iota // always
	medium             // not under the race detector, and not with -short
	large              // with CONCLAVE_SOAK=1
)

func (s size) need(t *testing.T) {
	t.Helper()
	soaking := os.Getenv("CONCLAVE_SOAK") == "1"
	switch {
	case s == large && !soaking:
		t.Skip("a large search: run with CONCLAVE_SOAK=1")
	case s == medium && !soaking && (raceEnabled || testing.Short()):
		t.Skip("a search of a second: run without -race and -short")
	}
}

func TestFastReleaseHolds(t *testing.T) {
	for _, test := range []struct {
		name string
		size size
		cfg  Config
	}{
		{"1 connection; 3 heartbeats", small, Config{Hosts: 1, Conns: 1, Beats: 3}},
		{"1 connection; 2 lost replies, lost heartbeat", small, Config{Hosts: 1, Conns: 1, Beats: 2, Faults: Faults{LoseReply: 2, LoseBeat: 1}}},
		{"2 connections, 1 host", small, Config{Hosts: 1, Conns: 2}},
		{"2 connections, 1 host; lost reply", medium, Config{Hosts: 1, Conns: 2, Beats: 2, Faults: Faults{LoseReply: 1}}},
		{"2 connections, 2 hosts; lost reply", medium, Config{Hosts: 2, Conns: 2, Beats: 1, Faults: Faults{LoseReply: 1}}},
		{"2 connections, 2 hosts; a host dies", medium, Config{Hosts: 2, Conns: 2, Beats: 1, Faults: Faults{Kill: 1}}},
		{"2 connections, 2 hosts; lost reply, lost heartbeat, a host closes, a host dies", large, Config{
			Hosts: 2, Conns: 2, Beats: 1, Faults: Faults{LoseReply: 1, LoseBeat: 1, HostClose: 1, Kill: 1}}},
		{"3 connections, 1 host", large, Config{Hosts: 1, Conns: 3}},
		{"3 connections, 1 host; lost reply", large, Config{Hosts: 1, Conns: 3, Faults: Faults{LoseReply: 1}}},
		{"release alone; 1 connection", small, Config{Hosts: 1, Conns: 1, Beats: 1, NoExpiry: true}},
		{"release alone; 2 connections, 2 hosts; lost reply", medium, Config{
			Hosts: 2, Conns: 2, Beats: 1, NoExpiry: true, Faults: Faults{LoseReply: 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.size.need(t)
			started := time.Now()
			r := model.Search(New(test.cfg), bound)
			t.Log(r, time.Since(started).Round(time.Millisecond))
			if r.Violation != "" || r.Cut {
				t.Error("the protocol does not hold")
			}
		})
	}
}
