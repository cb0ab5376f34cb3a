package election_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

func leader(tb testing.TB, e *election.Election) election.Leader {
	tb.Helper()
	return must[election.Leader](tb)(e.Leader(within(tb)))
}

func TestCampaignAndResign(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t, core.WithOwner("first")), name)
	if l, err := e.Leader(within(t)); !errors.Is(err, election.ErrNoLeader) || !l.Vacant() {
		t.Fatalf("leader of nobody: %+v, %v", l, err)
	}
	term := won(t, e, "10.0.0.1")
	l := leader(t, e)
	if l.Vacant() || l.Owner != "first" || l.Value != "10.0.0.1" || l.Token != term.Token() || l.Name != name || l.Since.IsZero() {
		t.Errorf("leader %+v", l)
	}
	if token, ok := core.TokenFrom(term.Context()); !ok || token != term.Token() {
		t.Errorf("the context has token %d, %v", token, ok)
	}
	if of, ok := election.TermFrom(term.Context()); !ok || of != term {
		t.Error("the context does not have the term")
	}
	if _, ok := election.TermFrom(context.Background()); ok {
		t.Error("a context without a term has one")
	}
	if _, err := term.Commit(within(t), clientv3.OpPut(name+"-work", "done")); err != nil {
		t.Error(err)
	}
	for range 2 {
		resign(t, term)
	}
	isAll(t, ended(t, term), core.ErrReleased)
	isNot(t, context.Cause(term.Context()), election.ErrLost)
	_, err := term.Commit(within(t), clientv3.OpPut(name+"-work", "late"))
	isAll(t, err, election.ErrLost)
	isAll(t, term.Proclaim(within(t), "late"), election.ErrLost)
	nothingLeft(t, name)
}

// The next leader and its value appear in one revision, and no vacancy between.
func TestHandover(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t), name)
	term := won(t, e, "one")
	if err := term.Proclaim(within(t), "one, later"); err != nil {
		t.Fatal(err)
	}
	other := election.New(session(t), name)
	next := campaigning(t, other, `two <"\u2028>`, 2)
	events := etcd.Record(t, prefixOf(name)+"grant")
	resign(t, term)
	second := next.get(t)
	if second.Token() <= term.Token() {
		t.Errorf("token %d after %d", second.Token(), term.Token())
	}
	if l := leader(t, e); l.Value != `two <"\u2028>` || l.Token != second.Token() {
		t.Errorf("leader %+v", l)
	}
	resign(t, second)
	nothingLeft(t, name)
	eventually(t, "both events", func() bool { return len(events.Events()) == 2 })
	for i, ev := range events.Events() {
		if deleted := ev.Type == clientv3.EventTypeDelete; deleted != (i == 1) {
			t.Errorf("event %d of the grant is %v", i, ev.Type)
		}
	}
}

func TestProclaim(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t), name)
	term := won(t, e, "")
	for _, value := range []string{"a", "", strings.Repeat("x", 4096), "a\x00\n\"b"} {
		if err := term.Proclaim(within(t), value); err != nil {
			t.Fatal(err)
		}
		if l := leader(t, e); l.Value != value || l.Token != term.Token() {
			t.Errorf("proclaimed %q, leader %+v", value, l)
		}
	}
	for _, value := range []string{strings.Repeat("x", 4097), "\xff"} {
		isAll(t, term.Proclaim(within(t), value), core.ErrInvalid)
		_, err := e.Campaign(within(t), value)
		isAll(t, err, core.ErrInvalid)
	}
	resign(t, term)
	nothingLeft(t, name)
	next := won(t, e, "next")
	if l := leader(t, e); l.Value != "next" {
		t.Errorf("the value of a later leader is %q", l.Value)
	}
	resign(t, next)
}

// A term that somebody else took away proclaims nothing.
func TestProclaimIsGuarded(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t), name)
	term := won(t, e, "one")
	if _, err := etcd.Client(t).Delete(within(t), prefixOf(name)+"grant"); err != nil {
		t.Fatal(err)
	}
	next := won(t, election.New(session(t), name), "two")
	isAll(t, term.Proclaim(within(t), "still me"), election.ErrLost, core.ErrKeyDeleted)
	if l := leader(t, e); l.Value != "two" || l.Token != next.Token() {
		t.Errorf("leader %+v", l)
	}
	isAll(t, ended(t, term), election.ErrLost, core.ErrKeyDeleted)
	isAll(t, term.Resign(), election.ErrLost)
	resign(t, next)
}

func TestPriorityDoesNotInterrupt(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t), name)
	term := won(t, e, "first")
	usual := campaigning(t, election.New(session(t), name), "usual", 2)
	urgent := campaigning(t, election.New(session(t), name, election.WithPriority(5)), "urgent", 3)
	if term.Context().Err() != nil {
		t.Fatal("a more urgent candidate ended the term")
	}
	cs := contenders(t, e, 3)
	if !cs[0].Leads || cs[0].Value != "first" || cs[1].Value != "urgent" || cs[1].Priority != 5 || cs[2].Value != "usual" || cs[2].Leads {
		t.Errorf("contenders %+v", cs)
	}
	resign(t, term)
	second := urgent.get(t)
	resign(t, second)
	resign(t, usual.get(t))
}

// Two campaigns of one session are two candidates, and both are seen.
func TestTwoOfOneSession(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	term := won(t, election.New(s, name), "one")
	next := campaigning(t, election.New(s, name), "two", 2)
	cs := contenders(t, election.New(session(t), name), 2)
	if cs[0].ID == cs[1].ID || cs[0].Value != "one" || cs[1].Value != "two" {
		t.Errorf("contenders %+v", cs)
	}
	resign(t, term)
	resign(t, next.get(t))
	nothingLeft(t, name)
}

func TestCampaignGivenUp(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t), name)
	term := won(t, e, "one")
	ctx, cancel := context.WithCancel(within(t))
	c := inBackground(func() (*election.Term, error) { return election.New(session(t), name).Campaign(ctx, "two") })
	contenders(t, e, 2)
	cancel()
	_, err := c.result(t)
	isAll(t, err, context.Canceled)
	contenders(t, e, 1)
	resign(t, term)
	nothingLeft(t, name)
}

// A try leads at once, or writes nothing.
func TestTryCampaign(t *testing.T) {
	for _, seats := range []int{1, 2} {
		for _, opts := range [][]election.Option{nil, {election.WithOnePerSession()}} {
			name := etcd.Prefix(t)
			opts = append(opts, election.WithSeats(seats))
			at := func(owner string) *election.Election {
				return election.New(session(t, core.WithOwner(owner)), name, opts...)
			}
			var terms []*election.Term
			for i := range seats {
				terms = append(terms, must[*election.Term](t)(at(fmt.Sprint("leader-", i)).TryCampaign(within(t), "v")))
			}
			refused := func(why string) {
				t.Helper()
				before := etcd.Revision(t)
				_, err := at("late").TryCampaign(within(t), "v")
				isAll(t, err, election.ErrLed)
				if after := etcd.Revision(t); after != before {
					t.Errorf("%s: revision %d to %d", why, before, after)
				}
				if seats == 1 && !strings.Contains(err.Error(), "leader-0") {
					t.Errorf("%v does not say who leads", err)
				}
			}
			refused("all seats are taken")
			next := campaigning(t, at("next"), "v", seats+1)
			refused("others stand")
			resign(t, terms[0])
			resign(t, next.get(t))
			again := must[*election.Term](t)(at("again").TryCampaign(within(t), "v"))
			for _, term := range append(terms[1:], again) {
				resign(t, term)
			}
			nothingLeft(t, name)
		}
	}
}

// P6: a candidate whose session died gets an error that says so, and never wins.
func TestP6CandidateWhoseSessionDied(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t), name)
	term := won(t, e, "one")
	s := session(t, core.WithTTL(5*time.Second))
	c := campaigning(t, election.New(s, name), "dead", 2)
	alive := campaigning(t, election.New(session(t), name), "alive", 3)
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	_, err := c.result(t)
	isAll(t, err, core.ErrSessionExpired)
	if err != nil && !strings.Contains(err.Error(), name) {
		t.Errorf("the error does not name the election: %v", err)
	}
	_, err = election.New(s, name).Campaign(within(t), "dead")
	isAll(t, err, core.ErrSessionExpired)
	resign(t, term)
	if l := leader(t, e); l.Value != "alive" {
		t.Errorf("leader %+v", l)
	}
	resign(t, alive.get(t))
}

// The leader's session dies: its context ends, and the next candidate leads.
func TestLeaderDies(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t, core.WithTTL(5*time.Second))
	term := won(t, election.New(s, name), "one")
	e := election.New(session(t), name)
	next := campaigning(t, e, "two", 2)
	third := campaigning(t, election.New(session(t), name), "three", 3)
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	second := next.get(t)
	if second.Token() <= term.Token() {
		t.Errorf("token %d after %d", second.Token(), term.Token())
	}
	isAll(t, ended(t, term), election.ErrLost, core.ErrSessionExpired)
	isAll(t, term.Resign(), election.ErrLost)
	if l := leader(t, e); l.Value != "two" {
		t.Errorf("leader %+v", l)
	}
	resign(t, second)
	resign(t, third.get(t))
}

func TestSeats(t *testing.T) {
	name := etcd.Prefix(t)
	seats := func() *election.Election { return election.New(session(t), name, election.WithSeats(2)) }
	e := seats()
	one, two := won(t, e, "one"), won(t, seats(), "two")
	third := campaigning(t, seats(), "three", 3)
	if err := two.Proclaim(within(t), "two, later"); err != nil {
		t.Fatal(err)
	}
	all := must[[]election.Leader](t)(e.Leaders(within(t)))
	if len(all) != 2 || all[0].Token != one.Token() || all[1].Token != two.Token() || all[1].Value != "two, later" {
		t.Errorf("leaders %+v", all)
	}
	_, err := election.New(session(t), name).Campaign(within(t), "alone")
	isAll(t, err, election.ErrSeatsMismatch)
	resign(t, one)
	next := third.get(t)
	all = must[[]election.Leader](t)(e.Leaders(within(t)))
	if len(all) != 2 || all[0].Token != two.Token() || all[1].Token != next.Token() || all[1].Value != "three" {
		t.Errorf("leaders %+v", all)
	}
	if l := leader(t, e); l.Token != two.Token() {
		t.Errorf("the leader of longest standing is %+v", l)
	}
	resign(t, two)
	resign(t, next)
	nothingLeft(t, name)
}

// A process that restarts within the TTL goes on with its term.
func TestResume(t *testing.T) {
	for _, k := range []struct {
		name string
		opts []election.Option
	}{{"one seat", nil}, {"two seats", []election.Option{election.WithSeats(2)}}} {
		t.Run(k.name, func(t *testing.T) {
			name := etcd.Prefix(t)
			s := session(t)
			var beside *election.Term // on another seat of the same session
			if k.opts != nil {
				beside = won(t, election.New(s, name, k.opts...), "beside")
			}
			term := won(t, election.New(s, name, k.opts...), "one")
			if err := term.Proclaim(within(t), "one, later"); err != nil {
				t.Fatal(err)
			}
			stand := must[[]election.Contender](t)(election.New(s, name).Contenders(within(t)))
			next := campaigning(t, election.New(session(t), name, k.opts...), "two", len(stand)+1)
			s.Orphan()
			isAll(t, ended(t, term), election.ErrLost, core.ErrSessionClosed)

			s = session(t, core.WithLease(s.Lease()))
			e := election.New(s, name, k.opts...)
			_, err := e.Resume(within(t), term.Token()+1<<16)
			isAll(t, err, election.ErrLost, election.ErrStaleToken)
			again := must[*election.Term](t)(e.Resume(within(t), term.Token()))
			if again.Token() != term.Token() || again.Context().Err() != nil {
				t.Errorf("resumed %d of %d, %v", again.Token(), term.Token(), context.Cause(again.Context()))
			}
			all := must[[]election.Leader](t)(e.Leaders(within(t)))
			if l := all[len(all)-1]; l.Value != "one, later" || l.Token != term.Token() {
				t.Errorf("leaders %+v", all)
			}
			resign(t, again)
			resign(t, next.get(t))
			if beside != nil {
				resign(t, must[*election.Term](t)(e.Resume(within(t), beside.Token())))
			}
			nothingLeft(t, name)
			_, err = e.Resume(within(t), 0)
			isAll(t, err, election.ErrLost)
		})
	}
}

func TestInvalid(t *testing.T) {
	s := session(t)
	for what, e := range map[string]*election.Election{
		"name":     election.New(s, ".."),
		"seats":    election.New(s, "x", election.WithSeats(0)),
		"health":   election.New(s, "x", election.WithHealth(func(context.Context) error { return nil }, time.Nanosecond)),
		"priority": election.New(s, "x", election.WithPriority(128)),
		"grace":    election.New(s, "x", election.WithGrace(time.Minute)),
		"purpose":  election.New(s, "x", election.WithPurpose("\x00")),
		"zone":     election.New(s, "x", election.WithZone(strings.Repeat("z", 65))),

		"preferred_zones": election.New(s, "x", election.WithPreferredZones(make([]string, 16)...)),
	} {
		_, err := e.Campaign(within(t), "v")
		isAll(t, err, core.ErrInvalid)
		if err != nil && !strings.Contains(err.Error(), what+":") {
			t.Errorf("the error does not name %s: %v", what, err)
		}
		isAll(t, e.Run(within(t), "v", func(context.Context) error { return nil }), core.ErrInvalid)
	}
	for _, err := range election.New(s, "..").Observe(within(t)) {
		isAll(t, err, core.ErrInvalid)
	}
	nothingLeft(t, "x")
}
