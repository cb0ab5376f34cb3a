package model

import (
	"strings"
	"testing"

	search "github.com/conclavehq/conclave/internal/waitqueue/model"
)

func TestLatchesHold(t *testing.T) {
	for _, c := range []struct {
		name   string
		effort effort
		cfg    LatchConfig
	}{
		{"latch of 2, 2 count, one of them twice; 2 lost replies", always, LatchConfig{Count: 2, Calls: []int8{0, 1, 1}, Await: true,
			Faults: LatchFaults{LoseReply: 2}}},
		{"latch of 2, 3 count; crash, lost reply", always, LatchConfig{Count: 2, Calls: []int8{0, 1, 2}, Await: true,
			Faults: LatchFaults{Crash: 1, LoseReply: 1}}},
		{"latch of 1, 3 count, 2 resets; 2 lost replies", usual, LatchConfig{Count: 1, Calls: []int8{0, 1, 0}, Resets: 2, Await: true,
			Faults: LatchFaults{LoseReply: 2}}},
		{"latch of 2, 4 count, reset; crash, lost reply", soak, LatchConfig{Count: 2, Calls: []int8{0, 1, 2, 3}, Resets: 1, Await: true,
			Faults: LatchFaults{Crash: 1, LoseReply: 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.effort.skip(t)
			mustHold(t, c.name, search.Search(NewLatch(c.cfg), bound))
		})
	}
}

func TestEveryGuardOfALatchIsNeeded(t *testing.T) {
	for _, c := range []struct {
		name   string
		defect LatchDefect
		harm   string
		cfg    LatchConfig
	}{
		{"B17 a count does not compare the state", CountIgnoresState, "another generation", LatchConfig{Count: 1, Calls: []int8{0, 1}, Resets: 1,
			Faults: LatchFaults{LoseReply: 1}}},
		{"B18 a count does not compare the operation", CountIgnoresOperation, "counted twice", LatchConfig{Count: 2, Calls: []int8{0, 0}}},
		{"B19 the opening does not compare the state", OpenIgnoresState, "not at zero", LatchConfig{Count: 1, Calls: []int8{0, 1}, Resets: 1,
			Faults: LatchFaults{LoseReply: 1}}},
		{"B20 nobody else opens", NobodyElseOpens, "somebody waits", LatchConfig{Count: 1, Calls: []int8{0}, Await: true, Faults: LatchFaults{Crash: 1}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			right := search.Search(NewLatch(c.cfg), bound)
			if right.Violation != "" || right.Cut {
				t.Fatalf("the configuration is wrong without the defect: %s", right)
			}
			wrong := c.cfg
			wrong.Defect = c.defect
			r := search.Search(NewLatch(wrong), bound)
			if !strings.Contains(r.Violation, c.harm) {
				t.Fatalf("want a violation with %q, got: %s", c.harm, r)
			}
			t.Logf("%d steps: %s", len(r.Trace), r.Violation)
		})
	}
}
