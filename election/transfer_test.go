package election_test

import (
	"context"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

// A line is a leader and candidates behind it, each of a session of its own.
type line struct {
	e     *election.Election // of an operator
	name  string
	lead  *election.Term
	calls map[string]*call[*election.Term]
	ids   map[string]string
	lease map[string]*core.Session
}

func lineUp(t *testing.T, grace time.Duration, owners ...string) *line {
	t.Helper()
	name := etcd.Prefix(t)
	l := &line{e: election.New(session(t, core.WithOwner("operator")), name), name: name,
		calls: map[string]*call[*election.Term]{}, ids: map[string]string{}, lease: map[string]*core.Session{}}
	for i, owner := range owners {
		s := session(t, core.WithOwner(owner))
		l.lease[owner] = s
		e := election.New(s, name, election.WithGrace(grace))
		if owner == "urgent" {
			e = election.New(s, name, election.WithGrace(grace), election.WithPriority(9))
		}
		if i == 0 {
			l.lead = won(t, e, owner)
		} else {
			l.calls[owner] = campaigning(t, e, owner, i+1)
		}
		for _, c := range contenders(t, l.e, i+1) {
			l.ids[c.Owner] = c.ID
		}
	}
	return l
}

// resigned resigns the terms of all candidates in this order, and looks that
// each comes next.
func (l *line) resigned(t *testing.T, owners ...string) {
	t.Helper()
	for _, owner := range owners {
		term := l.calls[owner].get(t)
		if got := leader(t, l.e); got.Owner != owner || got.Token != term.Token() {
			t.Errorf("leader %+v, want %s", got, owner)
		}
		resign(t, term)
	}
	nothingLeft(t, l.name)
}

// The leader drains, then the named contender leads, before others in line and
// more urgent ones; after it the line goes on.
func TestTransfer(t *testing.T) {
	for _, how := range []string{"by owner", "by id"} {
		t.Run(how, func(t *testing.T) {
			l := lineUp(t, 10*time.Second, "first", "second", "chosen", "last", "urgent")
			to := "chosen"
			if how == "by id" {
				to = l.ids["chosen"]
			}
			ctx := within(t)
			done := inBackground(func() (struct{}, error) { return struct{}{}, l.e.Transfer(ctx, to) })
			cause := ended(t, l.lead)
			isAll(t, cause, election.ErrTransferred, core.ErrReleased)
			isNot(t, cause, election.ErrLost)
			if got := leader(t, l.e); got.Token != l.lead.Token() { // it drains
				t.Errorf("leader %+v while the old one drains", got)
			}
			isAll(t, l.lead.Proclaim(within(t), "late"), election.ErrLost)
			resign(t, l.lead)
			done.get(t)
			l.resigned(t, "chosen", "urgent", "second", "last")
		})
	}
}

// A leader that does not resign is passed over after its grace.
func TestTransferAfterTheGrace(t *testing.T) {
	l := lineUp(t, 300*time.Millisecond, "first", "second", "chosen")
	if err := l.lead.Proclaim(within(t), "first, later"); err != nil {
		t.Fatal(err)
	}
	if err := l.e.Transfer(within(t), "chosen"); err != nil {
		t.Fatal(err)
	}
	isAll(t, l.lead.Resign(), election.ErrLost, core.ErrRevoked)
	l.resigned(t, "chosen", "second")
}

func TestTransferRefused(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t), name)
	isAll(t, e.Transfer(within(t), "anybody"), election.ErrNoLeader)
	l := lineUp(t, time.Second, "first", "second")
	isAll(t, l.e.Transfer(within(t), "nobody"), election.ErrNoContender)
	if err := l.e.Transfer(within(t), "first"); err != nil { // it leads already
		t.Error(err)
	}
	if l.lead.Context().Err() != nil {
		t.Error("a transfer to nobody ended the term")
	}
	resign(t, l.lead)
	l.resigned(t, "second")
}

// The contender is gone before the handover: the line goes on.
func TestTransferToOneWhoLeft(t *testing.T) {
	l := lineUp(t, 10*time.Second, "first", "second", "chosen", "last")
	ctx := within(t)
	done := inBackground(func() (struct{}, error) { return struct{}{}, l.e.Transfer(ctx, "chosen") })
	isAll(t, ended(t, l.lead), election.ErrTransferred)
	coretest.ExpireLease(t, etcd.Client(t), l.lease["chosen"].Lease())
	resign(t, l.lead)
	_, err := done.result(t)
	isAll(t, err, election.ErrNotTransferred)
	l.resigned(t, "second", "last")
}

// The leader dies while it drains: the line goes on.
func TestTransferByOneWhoDied(t *testing.T) {
	l := lineUp(t, 10*time.Second, "first", "second", "chosen")
	ctx := within(t)
	done := inBackground(func() (struct{}, error) { return struct{}{}, l.e.Transfer(ctx, "chosen") })
	isAll(t, ended(t, l.lead), election.ErrTransferred)
	coretest.ExpireLease(t, etcd.Client(t), l.lease["first"].Lease())
	_, err := done.result(t)
	isAll(t, err, election.ErrNotTransferred)
	l.resigned(t, "second", "chosen")
}

// Whoever asked is gone: the leader hands over all the same.
func TestTransferGivenUp(t *testing.T) {
	l := lineUp(t, 10*time.Second, "first", "second", "chosen")
	ctx, cancel := context.WithCancel(within(t))
	done := inBackground(func() (struct{}, error) { return struct{}{}, l.e.Transfer(ctx, "chosen") })
	isAll(t, ended(t, l.lead), election.ErrTransferred)
	cancel()
	_, err := done.result(t)
	isAll(t, err, context.Canceled, core.ErrUnknownOutcome)
	resign(t, l.lead)
	l.resigned(t, "chosen", "second")
}
