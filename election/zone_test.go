package election_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

// zoned is a candidate's election; zone "" says none.
func zoned(tb testing.TB, name, zone string, opts ...election.Option) (*election.Election, *core.Session) {
	tb.Helper()
	s := session(tb, core.WithOwner("in "+zone))
	opts = append(opts, election.WithZone(zone), election.WithPreferredZones("a", "b", "c"))
	return election.New(s, name, opts...), s
}

// Candidates lead in the order of their zones, and within a zone in the order in
// which they came: after a resignation and after the death of a leader, with one
// seat and with several. Nobody is interrupted, and a priority counts for more.
func TestPreferredZones(t *testing.T) {
	for _, seats := range []int{1, 2} {
		for _, dies := range []bool{false, true} {
			t.Run(fmt.Sprintf("seats=%d, dies=%v", seats, dies), func(t *testing.T) {
				name := etcd.Prefix(t)
				with := election.WithSeats(seats)
				var beside *election.Term
				if seats > 1 {
					e, _ := zoned(t, name, "elsewhere", with)
					beside = won(t, e, "beside")
				}
				e, s := zoned(t, name, "elsewhere", with)
				first := won(t, e, "first")
				n := seats
				type candidate struct {
					call *call[*election.Term]
					s    *core.Session
				}
				calls := map[string]candidate{}
				for _, at := range []string{"", "z", "c", "b", "b again", "a", "urgent z"} {
					opts := []election.Option{with}
					zone, urgent := strings.CutPrefix(at, "urgent ")
					if urgent {
						opts = append(opts, election.WithPriority(1))
					}
					zone, _, _ = strings.Cut(zone, " ")
					e, s := zoned(t, name, zone, opts...)
					n++
					calls[at] = candidate{campaigning(t, e, at, n), s}
				}
				want := []string{"urgent z", "a", "b", "b again", "c", "", "z"}
				var order []string
				for _, c := range contenders(t, e, n)[seats:] {
					order = append(order, c.Value)
				}
				if !slices.Equal(order, want) {
					t.Fatalf("in line are %q, want %q", order, want)
				}
				if first.Context().Err() != nil {
					t.Error("the leader was interrupted")
				}
				for _, next := range want {
					if dies {
						coretest.ExpireLease(t, etcd.Client(t), s.Lease())
					} else {
						resign(t, first)
					}
					term := calls[next].call.get(t)
					if term.Token() <= first.Token() {
						t.Errorf("token %d after %d", term.Token(), first.Token())
					}
					first, s = term, calls[next].s
				}
				resign(t, first)
				if beside != nil {
					resign(t, beside)
				}
				left := standing(t, name)
				if dies { // the protocol lets an expired owner leave a limit that nobody uses
					left = slices.DeleteFunc(left, func(key string) bool { return strings.HasSuffix(key, "/limit") })
				}
				if len(left) > 0 {
					t.Errorf("left over: %q", left)
				}
			})
		}
	}
}

func TestZoneIsSeen(t *testing.T) {
	name := etcd.Prefix(t)
	one, _ := zoned(t, name, "b")
	two, _ := zoned(t, name, "c")
	term := won(t, one, "one")
	next := campaigning(t, two, "two", 2)
	if l := leader(t, one); l.Zone != "b" {
		t.Errorf("leader %+v", l)
	}
	if cs := contenders(t, one, 2); cs[0].Zone != "b" || cs[1].Zone != "c" {
		t.Errorf("contenders %+v", cs)
	}
	resign(t, term)
	if l := leader(t, one); l.Zone != "c" {
		t.Errorf("leader %+v", l)
	}
	resign(t, next.get(t))
}

// A session that leads, and campaigns from another place than the one from which it
// won, is told of its term, and leaves nothing behind when it resigns.
func TestCampaignAgainFromAnotherPlace(t *testing.T) {
	for _, seats := range []int{1, 2} {
		name := etcd.Prefix(t)
		opts := []election.Option{election.WithOnePerSession(), election.WithSeats(seats)}
		var others []*election.Term
		for range seats {
			others = append(others, won(t, election.New(session(t), name, opts...), "other"))
		}
		e, s := zoned(t, name, "c", append(opts, election.WithPriority(5))...)
		next := campaigning(t, e, "two", seats+1)
		resign(t, others[0])
		term := next.get(t)
		place := must[election.Place](t)(term.Detach())
		usual := election.New(s, name, opts...)
		if again := won(t, usual, "two"); again.Token() != place.Token() {
			t.Errorf("token %d, want %d", again.Token(), place.Token())
		} else {
			resign(t, again)
		}
		for _, other := range others[1:] {
			resign(t, other)
		}
		nothingLeft(t, name)
	}
}

// A term that was won from a place that its zone had in line is found again.
func TestResumeInAZone(t *testing.T) {
	name := etcd.Prefix(t)
	one, _ := zoned(t, name, "a")
	term := won(t, one, "one")
	two, s := zoned(t, name, "c", election.WithOnePerSession())
	next := campaigning(t, two, "two", 2)
	resign(t, term)
	second := next.get(t)
	for range 2 {
		place := must[election.Place](t)(second.Detach())
		again := must[*election.Term](t)(two.ResumeAt(place))
		if _, err := again.Detach(); err != nil {
			t.Fatal(err)
		}
		if same := won(t, two, "two"); same.Token() != place.Token() {
			t.Errorf("token %d, want %d", same.Token(), place.Token())
		}
		second = must[*election.Term](t)(election.New(s, name).Resume(within(t), 0))
		if second.Token() != place.Token() {
			t.Errorf("token %d, want %d", second.Token(), place.Token())
		}
	}
	resign(t, second)
	nothingLeft(t, name)
}
