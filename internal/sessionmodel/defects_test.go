package sessionmodel

import (
	"testing"

	"github.com/conclavehq/conclave/internal/waitqueue/model"
)

// Each rule of the protocol is there for a reason that the search finds when the
// rule is missing.
func TestEveryRuleIsNeeded(t *testing.T) {
	one, two := Config{Hosts: 1, Conns: 1, Beats: 1}, Config{Hosts: 2, Conns: 2, Beats: 1}
	for name, test := range map[string]struct {
		defect Defect
		cfg    Config
		faults Faults
	}{
		"a release waits until the last heartbeat counts no more": {ReleaseAtOnce, one, Faults{}},
		"only the winner of a transaction revokes":                {ReleaseUnmarked, two, Faults{}},
		"the mark is guarded by the connection":                   {MarkUnguarded, two, Faults{}},
		"attaching is guarded by the revision":                    {AttachUnguarded, two, Faults{LoseReply: 1}},
		"a stream that its caller left cannot attach":             {AttachIgnoresOrder, two, Faults{}},
		"nothing attaches to a record that is ending":             {AttachRevives, two, Faults{}},
		"nothing is answered before it is attached":               {AnswerBeforeAttach, two, Faults{}},
		"a caller counts from the sending":                        {CountFromAnswer, one, Faults{}},
		"a caller is done with a stream when it begins another":   {UseOldStreams, two, Faults{}},
		"the first heartbeat bounds the validity":                 {CountFromOpen, one, Faults{}},
		"the first heartbeat counts when it arrives":              {AttachUncounted, one, Faults{}},
		"a close of the host's own does not count":                {OwnCloseCounts, one, Faults{HostClose: 1}},
		"an answer without a renewal promises what is left":       {AnswerKeepsFull, one, Faults{}},
	} {
		t.Run(name, func(t *testing.T) {
			test.cfg.Defect, test.cfg.Faults = test.defect, test.faults
			r := model.Search(New(test.cfg), bound)
			t.Log(r)
			if r.Violation == "" {
				t.Error("the search found nothing: the rule, or the search, is of no use")
			}
		})
	}
}
