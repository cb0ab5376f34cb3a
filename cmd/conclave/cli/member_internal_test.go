package cli

import (
	"strings"
	"testing"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
)

// cluster makes members of a text: v a voter that answers, V one that does not, l a
// learner.
func clusterOf(text string) []*hostv1.Member {
	var all []*hostv1.Member
	for _, c := range text {
		all = append(all, &hostv1.Member{Id: string(c), Name: string(c), Learner: c == 'l', Healthy: c != 'V'})
	}
	return all
}

// What may be removed leaves a majority that answers; what may be added does too.
func TestQuorumIsKept(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		members string
		gone    int
		loss    string // empty: it may go
		gain    string // empty: a voter may be added
	}{
		{"v", 0, "v is the only voter", "1 of 2 would answer"},
		{"vl", 1, "", "1 of 2 would answer"},
		{"vl", 0, "v is the only voter", "1 of 2 would answer"},
		{"vv", 0, "", ""},
		{"vV", 1, "1 of 2 voters answer, and 2 are needed", "1 of 3 would answer"},
		{"vvv", 0, "", ""},
		{"vvV", 2, "", "2 of 4 would answer"},
		{"vvV", 0, "without v, 1 of the other 2 voters would answer, and 2 are needed", "2 of 4 would answer"},
		{"vVV", 1, "1 of 3 voters answer, and 2 are needed", "1 of 4 would answer"},
		{"vvvv", 0, "", ""},
		{"vvvV", 0, "", ""},
		{"vvvVV", 0, "without v, 2 of the other 4 voters would answer, and 3 are needed", "3 of 6 would answer"},
		{"vvvVV", 3, "", "3 of 6 would answer"},
	} {
		all := clusterOf(tt.members)
		if got := lossOf(all, all[tt.gone]); (got == "") != (tt.loss == "") || !strings.Contains(got, tt.loss) {
			t.Errorf("%s without %d: %q, want %q", tt.members, tt.gone, got, tt.loss)
		}
		if got := gainOf(all); (got == "") != (tt.gain == "") || !strings.Contains(got, tt.gain) {
			t.Errorf("%s and one more: %q, want %q", tt.members, got, tt.gain)
		}
	}
}
