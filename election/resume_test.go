package election_test

import (
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

// A term becomes a plain value and a term again, with the value that it proclaimed.
func TestDetach(t *testing.T) {
	for _, k := range []struct {
		name string
		opts []election.Option
	}{
		{"one seat", nil},
		{"one per session", []election.Option{election.WithOnePerSession()}},
		{"two seats", []election.Option{election.WithSeats(2), election.WithOnePerSession()}},
	} {
		t.Run(k.name, func(t *testing.T) {
			name := etcd.Prefix(t)
			s := session(t)
			e := election.New(s, name, k.opts...)
			term := won(t, e, "one")
			if err := term.Proclaim(within(t), "one, later"); err != nil {
				t.Fatal(err)
			}
			place := must[election.Place](t)(term.Detach())
			if again := must[election.Place](t)(term.Detach()); again != place || place.Token() != term.Token() {
				t.Errorf("detached at %+v and %+v, token %d", place, again, term.Token())
			}
			isAll(t, ended(t, term), election.ErrDetached)
			isAll(t, term.Resign(), election.ErrLost, election.ErrDetached)
			isAll(t, term.Proclaim(within(t), "detached"), election.ErrLost)
			if l := leader(t, e); l.Token != place.Token() || l.Value != "one, later" {
				t.Errorf("leader %+v, want the detached one", l)
			}
			again := must[*election.Term](t)(election.New(s, name, k.opts...).ResumeAt(place))
			if again.Token() != term.Token() || again.Context().Err() != nil {
				t.Errorf("resumed %d, %v", again.Token(), again.Context().Err())
			}
			if err := again.Proclaim(within(t), "again"); err != nil {
				t.Error(err)
			}
			resign(t, again)
			_, err := again.Detach()
			isAll(t, err, election.ErrLost)
			nothingLeft(t, name)
			late := must[*election.Term](t)(e.ResumeAt(place)) // nobody has asked etcd
			isAll(t, late.Proclaim(within(t), "late"), election.ErrLost)
			isAll(t, late.Resign(), election.ErrLost)
			nothingLeft(t, name)
			_, err = e.ResumeAt(election.Place{})
			isAll(t, err, core.ErrInvalid)
		})
	}
}

// A resumed term resigns, and the next one is in line behind it.
func TestDetachedTermIsHandedOver(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	e := election.New(s, name, election.WithOnePerSession())
	first := won(t, e, "one")
	if err := first.Proclaim(within(t), "one, later"); err != nil {
		t.Fatal(err)
	}
	place := must[election.Place](t)(first.Detach())
	next := campaigning(t, election.New(session(t), name), "two", 2)
	if term := won(t, e, "one"); term.Token() != place.Token() { // the session leads
		t.Errorf("token %d, want %d", term.Token(), place.Token())
	}
	term := must[*election.Term](t)(e.ResumeAt(place))
	resign(t, term)
	resign(t, next.get(t))
	nothingLeft(t, name)
}

// A session that campaigns where it leads already resigns with all that the term has.
func TestCampaignWhereTheSessionLeads(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	first := won(t, election.New(s, name, election.WithOnePerSession()), "one")
	if err := first.Proclaim(within(t), "one, later"); err != nil {
		t.Fatal(err)
	}
	place := must[election.Place](t)(first.Detach())
	again := won(t, election.New(s, name, election.WithOnePerSession()), "one")
	if again.Token() != place.Token() {
		t.Errorf("token %d, want %d", again.Token(), place.Token())
	}
	resign(t, again)
	nothingLeft(t, name)
}

// A term that is resumed after etcd forgot how it began hears of a transfer all the
// same.
func TestResumedTermHearsOfATransfer(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run("resumed "+when, func(t *testing.T) {
			name := etcd.Prefix(t)
			e := election.New(session(t), name, election.WithGrace(10*time.Second))
			place := must[election.Place](t)(won(t, e, "one").Detach())
			next := campaigning(t, election.New(session(t, core.WithOwner("chosen")), name), "two", 2)
			compact(t)
			ctx := within(t)
			transfer := func() *call[struct{}] {
				return inBackground(func() (struct{}, error) { return struct{}{}, e.Transfer(ctx, "chosen") })
			}
			var done *call[struct{}]
			if when == "after" {
				done = transfer()
				eventually(t, "a notice", func() bool { return strings.Contains(strings.Join(standing(t, name), " "), "/notice/") })
				compact(t)
			}
			term := must[*election.Term](t)(e.ResumeAt(place))
			if when == "before" {
				done = transfer()
			}
			isAll(t, ended(t, term), election.ErrTransferred)
			resign(t, term)
			done.get(t)
			resign(t, next.get(t))
			nothingLeft(t, name)
		})
	}
}

// A leader whose watch was lost and compacted behind it watches again from where it
// looked, and does not ask etcd all the time.
func TestLeaderWatchesAgainAfterACompaction(t *testing.T) {
	name := etcd.Prefix(t)
	e, link := linked(t, name)
	term := won(t, e, "one")
	link.Cut()
	resign(t, won(t, election.New(session(t), name+"-other"), "other"))
	compact(t)
	link.Heal()
	next := campaigning(t, election.New(session(t, core.WithOwner("chosen")), name), "two", 2)
	ctx := within(t)
	near := election.New(session(t), name)
	done := inBackground(func() (struct{}, error) { return struct{}{}, near.Transfer(ctx, "chosen") })
	isAll(t, ended(t, term), election.ErrTransferred)
	resign(t, term)
	done.get(t)
	resign(t, next.get(t))
}

func endings(tb testing.TB, e *election.Election) election.Ending {
	tb.Helper()
	return leader(tb, e).Before
}

// An operator takes the leadership away: the leader is told and has its grace.
func TestForceResign(t *testing.T) {
	for _, how := range []string{"resigns", "does not resign"} {
		t.Run(how, func(t *testing.T) {
			name := etcd.Prefix(t)
			grace := 10 * time.Second
			if how == "does not resign" {
				grace = 300 * time.Millisecond
			}
			operator := election.New(session(t, core.WithOwner("ops")), name)
			term := won(t, election.New(session(t, core.WithOwner("first")), name, election.WithGrace(grace)), "one")
			if err := term.Proclaim(within(t), "one, later"); err != nil {
				t.Fatal(err)
			}
			next := campaigning(t, election.New(session(t), name), "two", 2)
			compact(t) // etcd has forgotten how the term began
			ctx := within(t)
			forced := inBackground(func() (core.Token, error) { return operator.ForceResign(ctx, "disk is full") })
			cause := ended(t, term)
			isAll(t, cause, election.ErrLost, core.ErrRevoked)
			for _, part := range []string{"ops", "disk is full", name} {
				if !strings.Contains(cause.Error(), part) {
					t.Errorf("the cause %q does not say %q", cause, part)
				}
			}
			if how == "resigns" {
				if l := leader(t, operator); l.Token != term.Token() {
					t.Errorf("leader %+v during the grace", l)
				}
				isAll(t, term.Resign(), election.ErrLost, core.ErrRevoked)
			}
			second := next.get(t)
			if token := forced.get(t); token != term.Token() {
				t.Errorf("revoked %d, want %d", token, term.Token())
			}
			want := election.Ending{Token: term.Token(), Cause: election.Forced, By: "ops: disk is full"}
			if got := endings(t, operator); got.ID == "" || got.Token != want.Token || got.Cause != want.Cause || got.By != want.By {
				t.Errorf("the term before ended by %+v, want %+v", got, want)
			}
			isAll(t, term.Resign(), election.ErrLost, core.ErrRevoked)
			resign(t, second)
			for _, key := range standing(t, name) {
				if !strings.Contains(key, "/notice/") { // which goes with the first one's session
					t.Errorf("left over: %s", key)
				}
			}
		})
	}
}

func TestForceResignOfSome(t *testing.T) {
	name := etcd.Prefix(t)
	seat := func(owner string) *election.Term {
		return won(t, election.New(session(t, core.WithOwner(owner)), name, election.WithSeats(3), election.WithGrace(0)), owner)
	}
	operator := election.New(session(t), name, election.WithSeats(3))
	_, err := operator.ForceResign(within(t), "nobody is there")
	isAll(t, err, election.ErrNoLeader)
	a, b, c := seat("a"), seat("b"), seat("c")
	_, err = operator.ForceResign(within(t), "a stranger", "d")
	isAll(t, err, election.ErrNoLeader)
	if token := must[core.Token](t)(operator.ForceResign(within(t), "two of them", "b", "a")); token != b.Token() {
		t.Errorf("revoked %d, want %d", token, b.Token())
	}
	isAll(t, ended(t, a), core.ErrRevoked)
	isAll(t, ended(t, b), core.ErrRevoked)
	if all := must[[]election.Leader](t)(operator.Leaders(within(t))); len(all) != 1 || all[0].Token != c.Token() || c.Context().Err() != nil {
		t.Errorf("leaders %+v", all)
	}
	resign(t, c)
	for _, reason := range []string{"line\nbreak", strings.Repeat("x", 257), "\xff"} {
		_, err = operator.ForceResign(within(t), reason)
		isAll(t, err, core.ErrInvalid)
	}
}

// The record says how the term before ended.
func TestBefore(t *testing.T) {
	name := etcd.Prefix(t)
	var h health
	look := election.New(session(t), name)
	ill := election.New(session(t, core.WithOwner("ill")), name, election.WithHealth(h.check, healthTime), election.WithGrace(10*time.Millisecond))
	is := func(cause election.Cause, token core.Token, by string) {
		t.Helper()
		if got := endings(t, look); got.Cause != cause || got.Token != token || got.By != by {
			t.Errorf("the term before ended by %+v, want %s of %d by %q", got, cause, token, by)
		}
	}
	one := won(t, ill, "one")
	is("", 0, "")
	next := campaigning(t, look, "two", 2)
	h.broken.Store(true)
	two := next.get(t)
	is(election.Unhealthy, one.Token(), "ill: unhealthy: disk is read-only")
	next = campaigning(t, election.New(session(t, core.WithOwner("chosen")), name), "three", 2)
	resign(t, two)
	three := next.get(t)
	is(election.Resigned, two.Token(), "")
	next = campaigning(t, election.New(session(t, core.WithOwner("fourth")), name), "four", 2)
	ctx := within(t)
	operator := election.New(session(t, core.WithOwner("ops")), name)
	done := inBackground(func() (struct{}, error) { return struct{}{}, operator.Transfer(ctx, "fourth") })
	isAll(t, ended(t, three), election.ErrTransferred)
	resign(t, three)
	done.get(t)
	is(election.Transferred, three.Token(), "ops: transferred to fourth")
	four := next.get(t)
	coretest.ExpireLease(t, etcd.Client(t), leader(t, look).Lease)
	isAll(t, ended(t, four), core.ErrSessionExpired)
	resign(t, won(t, look, "five"))
	nothingLeft(t, name)
}
