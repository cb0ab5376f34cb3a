package election_test

import (
	"context"
	"errors"
	"slices"
	"strings"
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

// A leader that is passed over at once, and whose successor has led and resigned before
// it heard of anything, learns why its term ended from whatever it does.
func TestTransferUnheard(t *testing.T) {
	for how, act := range map[string]func(*election.Term) error{
		"resigns":   (*election.Term).Resign,
		"proclaims": func(term *election.Term) error { return term.Proclaim(within(t), "late") },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			l := lineUp(t, 0, "first", "chosen")
			if err := l.e.Transfer(within(t), "chosen"); err != nil {
				t.Fatal(err)
			}
			l.resigned(t, "chosen")
			err := act(l.lead)
			if how == "proclaims" && errors.Is(err, election.ErrTransferred) { // it heard of the notice in time
				err = l.lead.Resign()
			}
			isAll(t, err, election.ErrLost, core.ErrRevoked)
			if !strings.Contains(err.Error(), "operator: transferred to chosen") {
				t.Errorf("the error %q does not say why", err)
			}
			isAll(t, l.lead.Resign(), election.ErrLost)
		})
	}
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

// seats are leaders and candidates of an election with two seats, each of a session
// of its own, in the order in which they came.
func seats(t *testing.T, grace time.Duration, owners ...string) *line {
	t.Helper()
	name := etcd.Prefix(t)
	l := &line{e: election.New(session(t, core.WithOwner("operator")), name, election.WithSeats(2)), name: name,
		calls: map[string]*call[*election.Term]{}, ids: map[string]string{}, lease: map[string]*core.Session{}}
	for i, owner := range owners {
		s := session(t, core.WithOwner(owner))
		l.lease[owner] = s
		l.calls[owner] = campaigning(t, election.New(s, name, election.WithSeats(2), election.WithGrace(grace)), owner, i+1)
		for _, c := range contenders(t, l.e, i+1) {
			l.ids[c.Owner] = c.ID
		}
	}
	return l
}

// leaders fails the test unless these lead, the longest first.
func (l *line) leaders(t *testing.T, owners ...string) {
	t.Helper()
	var got []string
	for _, leader := range must[[]election.Leader](t)(l.e.Leaders(within(t))) {
		got = append(got, leader.Owner)
	}
	if !slices.Equal(got, owners) {
		t.Errorf("%q lead, want %q", got, owners)
	}
}

// Of several leaders one drains, who has led longest or who is named, and the named
// contender has its seat; the other leader does not notice.
func TestTransferOfASeat(t *testing.T) {
	for _, k := range []struct {
		from         string
		byID         bool
		stays, moved string
	}{{"", false, "b", "a"}, {"b", false, "a", "b"}, {"b", true, "a", "b"}} {
		t.Run("from "+k.from, func(t *testing.T) {
			l := seats(t, 10*time.Second, "a", "b", "second", "chosen", "last")
			stays, moved := l.calls[k.stays].get(t), l.calls[k.moved].get(t)
			if err := moved.Proclaim(within(t), "moved"); err != nil {
				t.Fatal(err)
			}
			ctx := within(t)
			done := inBackground(func() (struct{}, error) {
				switch {
				case k.from == "":
					return struct{}{}, l.e.Transfer(ctx, "chosen")
				case k.byID:
					return struct{}{}, l.e.TransferFrom(ctx, l.ids[k.from], l.ids["chosen"])
				}
				return struct{}{}, l.e.TransferFrom(ctx, k.from, "chosen")
			})
			isAll(t, ended(t, moved), election.ErrTransferred, core.ErrReleased)
			l.leaders(t, "a", "b") // it drains
			resign(t, moved)
			done.get(t)
			l.leaders(t, k.stays, "chosen")
			all := must[[]election.Leader](t)(l.e.Leaders(within(t)))
			want := election.Ending{ID: l.ids[k.moved], Token: moved.Token(), Cause: election.Transferred, By: "operator: transferred to chosen"}
			if all[1].Before != want {
				t.Errorf("the term before ended by %+v, want %+v", all[1].Before, want)
			}
			if stays.Context().Err() != nil {
				t.Error("the other leader was interrupted")
			}
			chosen := l.calls["chosen"].get(t)
			resign(t, stays)
			second := l.calls["second"].get(t)
			resign(t, chosen)
			last := l.calls["last"].get(t)
			resign(t, second)
			resign(t, last)
			nothingLeft(t, l.name)
		})
	}
}

// A leader of a seat that does not resign is passed over after its grace; one that
// died, or a contender that left, leaves its seat to the first in line.
func TestTransferOfASeatGoesWrong(t *testing.T) {
	for _, how := range []string{"does not resign", "leader dies", "contender leaves"} {
		t.Run(how, func(t *testing.T) {
			grace := 10 * time.Second
			if how == "does not resign" {
				grace = 300 * time.Millisecond
			}
			l := seats(t, grace, "a", "b", "second", "chosen")
			a, b := l.calls["a"].get(t), l.calls["b"].get(t)
			ctx := within(t)
			done := inBackground(func() (struct{}, error) { return struct{}{}, l.e.Transfer(ctx, "chosen") })
			if cause := ended(t, a); how != "does not resign" || !errors.Is(cause, core.ErrRevoked) { // its grace was over before it heard
				isAll(t, cause, election.ErrTransferred)
			}
			next := "second"
			switch how {
			case "does not resign":
				next = "chosen"
				done.get(t)
				isAll(t, a.Resign(), election.ErrLost, core.ErrRevoked)
			case "leader dies":
				coretest.ExpireLease(t, etcd.Client(t), l.lease["a"].Lease())
			case "contender leaves":
				coretest.ExpireLease(t, etcd.Client(t), l.lease["chosen"].Lease())
				resign(t, a)
			}
			if next == "second" {
				_, err := done.result(t)
				isAll(t, err, election.ErrNotTransferred)
			}
			term := l.calls[next].get(t)
			l.leaders(t, "b", next)
			resign(t, b)
			resign(t, term)
			if how != "contender leaves" {
				rest := map[string]string{"second": "chosen", "chosen": "second"}[next]
				resign(t, l.calls[rest].get(t))
			}
			nothingLeft(t, l.name)
		})
	}
}

func TestTransferFromRefused(t *testing.T) {
	l := seats(t, time.Second, "a", "b", "second")
	a, b := l.calls["a"].get(t), l.calls["b"].get(t)
	err := l.e.TransferFrom(within(t), "second", "second")
	isAll(t, err, election.ErrNoLeader)
	if !strings.Contains(err.Error(), `"second"`) {
		t.Errorf("%v does not name who does not lead", err)
	}
	isAll(t, l.e.TransferFrom(within(t), "", "second"), core.ErrInvalid)
	isAll(t, l.e.TransferFrom(within(t), "a", "nobody"), election.ErrNoContender)
	if err := l.e.TransferFrom(within(t), "a", "b"); err != nil { // it leads already
		t.Error(err)
	}
	if a.Context().Err() != nil || b.Context().Err() != nil {
		t.Error("a transfer to nobody ended a term")
	}
	resign(t, a)
	resign(t, b)
	resign(t, l.calls["second"].get(t))
	nothingLeft(t, l.name)
}
