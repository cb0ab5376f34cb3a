package election_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

// The tests of this file are what users of other elections suffer from most. The
// defects of etcd's own, TestP6 and TestP12, are beside what they are about.

// A leader and all candidates behind it lose their sessions at once: each learns it,
// nobody leads without a key, and a new candidate wins (etcd#19597).
func TestPain2EverySessionDies(t *testing.T) {
	name := etcd.Prefix(t)
	var sessions []*core.Session
	var calls []*call[*election.Term]
	for range 4 {
		sessions = append(sessions, session(t, core.WithTTL(5*time.Second)))
	}
	term := won(t, election.New(sessions[0], name), "leader")
	for i, s := range sessions[1:] {
		calls = append(calls, campaigning(t, election.New(s, name), fmt.Sprint("candidate ", i), i+2))
	}
	for i := range sessions { // the last one in line first
		coretest.ExpireLease(t, etcd.Client(t), sessions[len(sessions)-1-i].Lease())
	}
	for _, c := range calls {
		switch won, err := c.result(t); {
		case err != nil:
			isAll(t, err, core.ErrSessionExpired)
		default: // it led for a moment, between the ends of two sessions
			isAll(t, ended(t, won), election.ErrLost, core.ErrSessionExpired)
		}
	}
	isAll(t, ended(t, term), election.ErrLost, core.ErrSessionExpired)
	e := election.New(session(t), name)
	_, err := e.Leader(within(t))
	isAll(t, err, election.ErrNoLeader)
	resign(t, won(t, e, "new"))
	nothingLeft(t, name)
}

// Candidates that are cut off and come back never lead two at a time, and one whose
// term passed on while it was away does not lead when it is back, unless it is
// elected again (curator#1169, #1211).
func TestPain15DoubleLeaderAfterReconnect(t *testing.T) {
	const rounds = 4
	name := etcd.Prefix(t)
	away, link := linked(t, name)
	near := election.New(session(t), name)
	var highest core.Token
	for range rounds {
		term := won(t, away, "away")
		next := campaigning(t, near, "near", 2)
		link.Cut()
		coretest.ExpireLease(t, etcd.Client(t), leader(t, near).Lease) // as etcd ends it
		second := next.get(t)
		if second.Token() <= term.Token() || term.Token() <= highest {
			t.Errorf("tokens %d, %d after %d", term.Token(), second.Token(), highest)
		}
		highest = second.Token()
		link.Heal()
		isAll(t, term.Proclaim(within(t), "still me"), election.ErrLost)
		isAll(t, ended(t, term), election.ErrLost, core.ErrSessionExpired)
		if l := leader(t, near); l.Token != second.Token() || l.Value != "near" {
			t.Errorf("leader %+v, want %d", l, second.Token())
		}
		_, err := away.Campaign(within(t), "again") // on the session that is over
		isAll(t, err, core.ErrSessionExpired)
		isAll(t, term.Resign(), election.ErrLost)
		if l := leader(t, near); l.Token != second.Token() {
			t.Errorf("a late resignation ended the term of %+v", l)
		}
		resign(t, second)
		away, link = linked(t, name)
	}
	nothingLeft(t, name)
}

// An observer is told first how it is, also that nobody leads, then of the end of
// each leader, however it ends; and it outlives its connection (etcd#18163,
// trillian#1387).
func TestPain18ObserverMissesNobody(t *testing.T) {
	name := etcd.Prefix(t)
	e, link := linked(t, name)
	vacant := observing(t, e)
	vacant.sees(t, "")
	near := election.New(session(t), name)
	ends := []struct {
		value string
		by    func(term *election.Term)
	}{
		{"resigned", func(term *election.Term) { resign(t, term) }},
		{"expired", func(term *election.Term) { coretest.ExpireLease(t, etcd.Client(t), leader(t, near).Lease) }},
		{"deleted", func(term *election.Term) {
			if _, err := etcd.Client(t).Delete(within(t), prefixOf(name)+"grant"); err != nil {
				t.Fatal(err)
			}
		}},
		{"forced", func(term *election.Term) { must[core.Token](t)(near.ForceResign(within(t), "test")) }},
		{"while cut off", func(term *election.Term) {
			link.Cut()
			resign(t, term)
			link.Heal()
		}},
	}
	for _, k := range ends {
		term := won(t, election.New(session(t), name, election.WithGrace(0)), k.value)
		led := observing(t, e)
		led.sees(t, k.value)
		k.by(term)
		led.sees(t, "")
		vacant.sees(t, k.value, "")
	}
	vacant.quiet(t)
}

// Run calls its function once for each term, never twice at a time, goes on after a
// loss without a new process, and returns only after that function has (client-go#728,
// #1187).
func TestPain19RunOutlivesALoss(t *testing.T) {
	name := etcd.Prefix(t)
	var inside, terms atomic.Int32
	ctx, cancel := context.WithCancel(within(t))
	started, leave := make(chan core.Token), make(chan struct{})
	run := inBackground(func() (struct{}, error) {
		return struct{}{}, election.New(session(t), name).Run(ctx, "v", func(work context.Context) error {
			if inside.Add(1) != 1 {
				t.Error("two bodies at a time")
			}
			defer inside.Add(-1)
			terms.Add(1)
			token, _ := core.TokenFrom(work)
			started <- token
			<-work.Done()
			<-leave // it takes its time
			return context.Cause(work)
		})
	})
	first := <-started
	if _, err := etcd.Client(t).Delete(within(t), prefixOf(name)+"grant"); err != nil {
		t.Fatal(err)
	}
	other := won(t, election.New(session(t), name), "other") // the term is over, the body is not
	if terms.Load() != 1 || inside.Load() != 1 {
		t.Errorf("%d terms, %d inside", terms.Load(), inside.Load())
	}
	leave <- struct{}{}
	contenders(t, election.New(session(t), name), 2) // it stands again
	resign(t, other)
	if second := <-started; second <= other.Token() || other.Token() <= first {
		t.Errorf("tokens %d, %d, %d", first, other.Token(), second)
	}
	cancel()
	for range 20 { // a wrong one has its chance
		etcd.Revision(t)
	}
	select {
	case <-run.done:
		t.Error("Run returned before its function")
	default:
	}
	leave <- struct{}{}
	_, err := run.result(t)
	isAll(t, err, context.Canceled)
	nothingLeft(t, name)
}
