package model_test

import (
	"os"
	"testing"
	"time"

	discovery "github.com/conclavehq/conclave/discovery/internal/model"
	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

func TestTheVerdictsHold(t *testing.T) {
	for _, test := range []struct {
		name   string
		long   bool
		faults discovery.VerdictFaults
	}{
		{"nothing happens", false, discovery.VerdictFaults{}},
		{"2 changes of health, lost reply, lost ownership", false, discovery.VerdictFaults{Flip: 2, Lose: 1, Expire: 1}},
		{"2 changes of health, 2 lost replies, handover", false, discovery.VerdictFaults{Flip: 2, Lose: 2, Handover: 1}},
		{"change of health, update, lost reply, lost lease", false, discovery.VerdictFaults{Flip: 1, Update: 1, Lose: 1, LeaseLoss: 1}},
		{"change of health, lost reply, deletions, mark", false, discovery.VerdictFaults{Flip: 1, Lose: 1, Delete: 1, Undefine: 1, Mark: 1}},
		{"2 changes of health, update, lost ownership, lost lease", false, discovery.VerdictFaults{Flip: 2, Update: 1, Expire: 1, LeaseLoss: 1}},
		{"2 changes of health, update, lost reply, lost ownership, lost lease", true,
			discovery.VerdictFaults{Flip: 2, Update: 1, Lose: 1, Expire: 1, LeaseLoss: 1}},
		{"change of health, lost reply, lost ownership, handover, deletion, mark", true,
			discovery.VerdictFaults{Flip: 1, Lose: 1, Expire: 1, Handover: 1, Delete: 1, Mark: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.long && os.Getenv("CONCLAVE_SOAK") != "1" {
				t.Skip("a large search: run with CONCLAVE_SOAK=1")
			}
			started := time.Now()
			r := model.Search(discovery.NewVerdicts(discovery.VerdictConfig{Faults: test.faults}), bound)
			t.Log(r, time.Since(started).Round(time.Millisecond))
			if r.Violation != "" || r.Cut {
				t.Error("the protocol does not hold")
			}
		})
	}
}

// Without a rule the search finds the harm that it is there for.
func TestDefectsOfVerdictsAreFound(t *testing.T) {
	for name, cfg := range map[string]discovery.VerdictConfig{
		"no fence":      {Defect: discovery.NoFence, Faults: discovery.VerdictFaults{Flip: 1, Expire: 1}},
		"no definition": {Defect: discovery.NoDefinition, Faults: discovery.VerdictFaults{Update: 1}},
		"no rewrite":    {Defect: discovery.NoRewrite, Faults: discovery.VerdictFaults{Flip: 2, Lose: 1}},
		"no reconcile":  {Defect: discovery.NoReconcile, Faults: discovery.VerdictFaults{LeaseLoss: 1}},
	} {
		r := model.Search(discovery.NewVerdicts(discovery.VerdictConfig{Faults: cfg.Faults, Defect: cfg.Defect}), bound)
		t.Logf("%s: %s", name, r)
		if r.Violation == "" {
			t.Errorf("%s: nothing was found", name)
		}
	}
}
