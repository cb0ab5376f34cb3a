package model_test

import (
	"os"
	"testing"
	"time"

	discovery "github.com/conclavehq/conclave/discovery/internal/model"
	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

// bound is more states than any configuration has.
const bound = 20_000_000

func TestTheProtocolHolds(t *testing.T) {
	for _, test := range []struct {
		name string
		long bool
		cfg  discovery.Config
	}{
		{"2 registrations stay", false, discovery.Config{Regs: 2, Stay: true}},
		{"2 stay; 2 lost replies, lost lease, deletion", false, discovery.Config{Regs: 2, Stay: true, Faults: discovery.Faults{Lose: 2, LeaseLoss: 1, Delete: 1}}},
		{"3 stay; lost reply, lost lease, deletion", false, discovery.Config{Regs: 3, Stay: true, Faults: discovery.Faults{Lose: 1, LeaseLoss: 1, Delete: 1}}},
		{"2 come and go; 2 lost replies, lost lease, deletion", false, discovery.Config{Regs: 2, Faults: discovery.Faults{Lose: 2, LeaseLoss: 1, Delete: 1}}},
		{"2 come and go in a full etcd; 2 lost replies, deletion", false, discovery.Config{Regs: 2, NoFarewell: true, Faults: discovery.Faults{Lose: 2, Delete: 1}}},
		{"3 come and go; lost reply, lost lease", true, discovery.Config{Regs: 3, Faults: discovery.Faults{Lose: 1, LeaseLoss: 1}}},
		{"3 stay; 2 lost replies, lost lease, deletion", true, discovery.Config{Regs: 3, Stay: true, Faults: discovery.Faults{Lose: 2, LeaseLoss: 1, Delete: 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.long && os.Getenv("CONCLAVE_SOAK") != "1" {
				t.Skip("a large search: run with CONCLAVE_SOAK=1")
			}
			started := time.Now()
			r := model.Search(discovery.New(test.cfg), bound)
			t.Log(r, time.Since(started).Round(time.Millisecond))
			if r.Violation != "" || r.Cut {
				t.Error("the protocol does not hold")
			}
		})
	}
}

// Without a rule the search finds the harm that it is there for.
func TestDefectsAreFound(t *testing.T) {
	for name, cfg := range map[string]discovery.Config{
		"no incarnations":          {Regs: 2, Stay: true, Defect: discovery.NoIncarnations},
		"no sweep":                 {Regs: 1, Defect: discovery.NoSweep, Faults: discovery.Faults{Lose: 1}},
		"incarnation of the write": {Regs: 2, Stay: true, Defect: discovery.IncOfWrite, Faults: discovery.Faults{Lose: 1, LeaseLoss: 1}},
	} {
		r := model.Search(discovery.New(cfg), bound)
		t.Logf("%s: %s", name, r)
		if r.Violation == "" {
			t.Errorf("%s: nothing was found", name)
		}
	}
}
