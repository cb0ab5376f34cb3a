package commit_test

import (
	"testing"

	"github.com/conclavehq/conclave/internal/commit"
)

// counted returns a function that returns one count after the other, the last one
// for ever, and how often it was called.
func counted(counts ...int) (waiting func() int, calls *int) {
	calls = new(int)
	return func() int {
		n := counts[min(*calls, len(counts)-1)]
		*calls++
		return n
	}, calls
}

// A Gather ends with the call that finds what it waits for.
func TestGatherEndsWhenAllAreBack(t *testing.T) {
	for name, tc := range map[string]struct {
		answered, most int
		counts         []int
		calls          int
	}{
		"all at once":                    {4, 64, []int{0, 4}, 2},
		"one after the other":            {3, 64, []int{0, 1, 2, 3}, 4},
		"beside one who waited before":   {3, 64, []int{1, 2, 3, 4}, 4},
		"as many as a batch takes":       {40, 64, []int{30, 50, 64}, 3},
		"enough wait already":            {40, 64, []int{64}, 1},
		"the rest stays away":            {16, 64, []int{0, 5, 9, 9}, 4},
		"who waits is not kept any more": {16, 64, []int{2, 2}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			waiting, calls := counted(tc.counts...)
			commit.Gather(tc.answered, tc.most, waiting)
			// Fewer than that, but not less than two, where the time is over first.
			if *calls > tc.calls || *calls < min(tc.calls, 2) {
				t.Errorf("asked %d times, not %d", *calls, tc.calls)
			}
		})
	}
}

// TestGatherEndsThoughNobodyComes would hang.
func TestGatherEndsThoughNobodyComes(t *testing.T) {
	waiting, calls := counted(0)
	commit.Gather(16, 64, waiting)
	if *calls < 2 {
		t.Errorf("asked %d times: it did not wait", *calls)
	}
}
