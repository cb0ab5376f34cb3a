package election_test

import (
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

// faulty opens a session whose requests a test can lose.
func faulty(tb testing.TB) (*core.Session, *coretest.Faults) {
	tb.Helper()
	f := coretest.NewFaults()
	s, err := core.NewSession(within(tb), etcd.Client(tb, f.DialOptions()...), core.WithTTL(4*patience))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		f.Clear()
		_ = s.Close()
	})
	return s, f
}

// P12: a watch that is lost is no news: a candidate does not win by it, and an
// observer sees no vacancy.
func TestP12LostWatchIsNoNews(t *testing.T) {
	name := etcd.Prefix(t)
	term := won(t, election.New(session(t), name), "one")
	e, link := linked(t, name)
	o := observing(t, e)
	o.sees(t, "one")
	ctx := within(t)
	candidate := inBackground(func() (*election.Term, error) { return e.Campaign(ctx, "two") })
	contenders(t, election.New(session(t), name), 2)
	for range 3 {
		link.Cut()
		compact(t)
		link.Heal()
		leader(t, e) // the connection is back
	}
	select {
	case <-candidate.done:
		t.Fatalf("won beside a leader: %v, %v", candidate.value, candidate.err)
	default:
	}
	o.quiet(t)
	resign(t, term)
	resign(t, candidate.get(t))
	o.sees(t, "two", "")
}

// Replies of a proclamation and of a resignation are lost.
func TestLostReplies(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	e := election.New(s, name)
	term := won(t, e, "one")
	next := campaigning(t, election.New(session(t), name), "two", 2)
	f.LoseReply(coretest.Puts("/given/"))
	isAll(t, term.Proclaim(within(t), "one, later"), core.ErrUnknownOutcome)
	if l := leader(t, e); l.Value != "one, later" {
		t.Errorf("leader %+v", l)
	}
	f.LoseReply(coretest.Deletes("/given/"), coretest.Times(2))
	resign(t, term)
	resign(t, next.get(t))
	nothingLeft(t, name)
}

// A proclamation that arrives after the term does nothing.
func TestLateProclamation(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	term := won(t, election.New(s, name), "one")
	late := f.Late(coretest.Puts("/given/"))
	isAll(t, term.Proclaim(within(t), "one, later"), core.ErrUnknownOutcome)
	resign(t, term)
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, name)
}

// Every reply of a transfer is lost once: the contender leads in the end.
func TestTransferWithLostReplies(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	term := won(t, election.New(s, name), "one")
	second := campaigning(t, election.New(session(t), name), "two", 2)
	chosen := campaigning(t, election.New(session(t, core.WithOwner("chosen")), name), "three", 3)
	ctx := within(t)
	e := election.New(session(t), name)
	done := inBackground(func() (struct{}, error) { return struct{}{}, e.Transfer(ctx, "chosen") })
	isAll(t, ended(t, term), election.ErrTransferred)
	f.LoseReply(coretest.Puts("/grant"), coretest.Times(2))
	resign(t, term)
	done.get(t)
	resign(t, chosen.get(t))
	resign(t, second.get(t))
	nothingLeft(t, name)
}
