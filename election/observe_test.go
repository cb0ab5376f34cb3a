package election_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

// An observer takes what an observation yields, for a test to read.
type observer struct {
	leaders chan election.Leader
	err     chan error // the last pair's
	leave   context.CancelFunc
}

func observing(tb testing.TB, e *election.Election) *observer {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	o := &observer{leaders: make(chan election.Leader, 1<<12), err: make(chan error, 1), leave: cancel}
	go func() {
		for l, err := range e.Observe(ctx) {
			if err != nil {
				o.err <- err
				return
			}
			o.leaders <- l
		}
	}()
	tb.Cleanup(func() {
		cancel()
		select {
		case err := <-o.err:
			isAll(tb, err, context.Canceled)
		case <-time.After(patience):
			tb.Error("the observation does not end")
		}
	})
	return o
}

// next waits for the next pair.
func (o *observer) next(tb testing.TB) election.Leader {
	tb.Helper()
	select {
	case l := <-o.leaders:
		return l
	case <-time.After(patience):
		tb.Fatal("nothing is observed")
		return election.Leader{}
	}
}

// sees fails the test unless the next pairs have these values; "" is a vacancy.
func (o *observer) sees(tb testing.TB, values ...string) {
	tb.Helper()
	for _, want := range values {
		if l := o.next(tb); l.Value != want || l.Vacant() != (want == "") || l.Gap {
			tb.Fatalf("observed %+v, want %q", l, want)
		}
	}
}

// quiet fails the test if something was observed that nobody has taken.
func (o *observer) quiet(tb testing.TB) {
	tb.Helper()
	select {
	case l := <-o.leaders:
		tb.Errorf("observed %+v, want nothing more", l)
	default:
	}
}

func TestObserve(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t), name)
	before := observing(t, election.New(session(t), name))
	before.sees(t, "")
	one := won(t, e, "one")
	late := observing(t, e)
	later := observing(t, e) // on the same watch
	for _, o := range []*observer{before, late, later} {
		o.sees(t, "one")
	}
	if err := one.Proclaim(within(t), "one, later"); err != nil {
		t.Fatal(err)
	}
	two := campaigning(t, election.New(session(t), name), "two", 2)
	resign(t, one)
	resign(t, two.get(t))
	again := won(t, e, "two") // the same value, and another term
	resign(t, again)
	for _, o := range []*observer{before, late, later} {
		o.sees(t, "one, later", "two", "", "two", "")
		o.quiet(t)
	}
}

// Each term is seen once, with the vacancies between terms, however slow a loop is.
func TestObserveSeesEveryTerm(t *testing.T) {
	name := etcd.Prefix(t)
	e := election.New(session(t), name)
	var want, got []core.Token
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	vacancies := 0
	for l, err := range election.New(session(t), name).Observe(ctx) {
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			t.Fatalf("%v; observed %d vacancies and %d terms", err, vacancies, len(got))
		}
		if l.Vacant() {
			vacancies++
		} else if len(got) == 0 || got[len(got)-1] != l.Token { // else a value that has not been coalesced
			got = append(got, l.Token)
		}
		if want == nil { // the loop stands still while all of it happens
			for i := range 100 {
				term := won(t, e, fmt.Sprint(i))
				for range 3 {
					if err := term.Proclaim(within(t), "still "+fmt.Sprint(i)); err != nil {
						t.Fatal(err)
					}
				}
				want = append(want, term.Token())
				resign(t, term)
			}
		}
		if len(got) == len(want) && vacancies == len(want)+1 {
			cancel()
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || vacancies != len(want)+1 {
		t.Errorf("observed %d vacancies and the terms %v, want %v", vacancies, got, want)
	}
}

func TestObserveSeats(t *testing.T) {
	name := etcd.Prefix(t)
	seats := func() *election.Election { return election.New(session(t), name, election.WithSeats(2)) }
	e := seats()
	first := observing(t, e)
	first.sees(t, "")
	var rows []string
	rest := make(chan string, 100)
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s, err := range seats().ObserveSeats(ctx) {
			if err != nil {
				return
			}
			row := ""
			for _, l := range s.Leaders {
				row += l.Value + " "
			}
			rest <- row
		}
	}()
	sees := func(want string) {
		t.Helper()
		select {
		case row := <-rest:
			if rows = append(rows, row); row != want {
				t.Fatalf("observed %q, want %q", rows, want)
			}
		case <-time.After(patience):
			t.Fatalf("observed %q, want %q next", rows, want)
		}
	}
	sees("")
	one := won(t, e, "one")
	sees("one ")
	two := won(t, seats(), "two")
	sees("one two ")
	third := campaigning(t, seats(), "three", 3)
	if err := one.Proclaim(within(t), "uno"); err != nil {
		t.Fatal(err)
	}
	sees("uno two ")
	resign(t, one)
	sees("two three ")
	first.sees(t, "one", "uno", "two")
	resign(t, two)
	resign(t, third.get(t))
	sees("three ")
	sees("")
	first.sees(t, "three", "")
	cancel()
	<-done
}

// An observation ends with an error that is that of its context, and goes on when
// the session of its election has ended.
func TestObserveEnds(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	o := observing(t, election.New(s, name))
	o.sees(t, "")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	term := won(t, election.New(session(t), name), "one")
	o.sees(t, "one")
	resign(t, term)
	o.sees(t, "")
	cause := errors.New("enough of it")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var last error
	for _, err := range election.New(s, name).Observe(ctx) {
		cancel(cause)
		last = err
	}
	isAll(t, last, context.Canceled, cause)
}

// linked is an election whose connection a test can break.
func linked(tb testing.TB, name string) (*election.Election, *coretest.Link) {
	tb.Helper()
	link := etcd.Link(tb)
	s, err := core.NewSession(within(tb), coretest.Dial(tb, link.Endpoint()), core.WithTTL(4*patience))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		link.Heal()
		_ = s.Close()
	})
	return election.New(s, name), link
}

// An observer that was cut off sees all that it missed.
func TestObserveCutOff(t *testing.T) {
	name := etcd.Prefix(t)
	e, link := linked(t, name)
	o := observing(t, e)
	o.sees(t, "")
	near := election.New(session(t), name)
	for i := range 3 {
		link.Cut()
		first := won(t, near, fmt.Sprint("first ", i))
		next := campaigning(t, election.New(session(t), name), fmt.Sprint("next ", i), 2)
		resign(t, first)
		resign(t, next.get(t))
		link.Heal()
		o.sees(t, fmt.Sprint("first ", i), fmt.Sprint("next ", i), "")
	}
	o.quiet(t)
}

func compact(tb testing.TB) {
	tb.Helper()
	client := etcd.Client(tb)
	put, err := client.Put(within(tb), "compacted", "") // a revision can be compacted once
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := client.Compact(within(tb), put.Header.Revision); err != nil {
		tb.Fatal(err)
	}
}

// After a compaction of what it had not seen, an observation goes on with the
// terms that etcd still knows. It says that some may be missing, unless the
// leader's own key proves that there were none.
func TestObserveCompacted(t *testing.T) {
	for _, k := range []struct {
		name   string
		cutOff func(t *testing.T, term *election.Term, near *election.Election, name string)
		want   []string
		gap    int // which of want has it; -1: none
	}{
		{"nothing missed", func(t *testing.T, _ *election.Term, _ *election.Election, name string) {
			resign(t, won(t, election.New(session(t), name+"-other"), "other"))
			compact(t)
		}, nil, -1},
		{"one handover missed", func(t *testing.T, term *election.Term, near *election.Election, name string) {
			next := campaigning(t, election.New(session(t), name), "two", 2)
			resign(t, term)
			next.get(t)
			compact(t)
		}, []string{"two"}, -1},
		{"handovers after the compaction", func(t *testing.T, term *election.Term, near *election.Election, name string) {
			resign(t, won(t, election.New(session(t), name+"-other"), "other"))
			compact(t)
			next := campaigning(t, election.New(session(t), name), "two", 2)
			resign(t, term)
			third := campaigning(t, near, "three", 2)
			resign(t, next.get(t))
			resign(t, third.get(t))
			won(t, near, "four")
		}, []string{"two", "three", "", "four"}, -1},
		{"a term missed", func(t *testing.T, term *election.Term, near *election.Election, name string) {
			resign(t, term)
			resign(t, won(t, near, "two"))
			won(t, near, "three")
			compact(t)
		}, []string{"three"}, 0},
		{"a vacancy missed, and a term after it", func(t *testing.T, term *election.Term, near *election.Election, name string) {
			resign(t, term)
			resign(t, won(t, near, "two"))
			compact(t)
			won(t, near, "three")
		}, []string{"", "three"}, 1},
	} {
		t.Run(k.name, func(t *testing.T) {
			name := etcd.Prefix(t)
			near := election.New(session(t), name)
			term := won(t, near, "one")
			e, link := linked(t, name)
			o := observing(t, e)
			o.sees(t, "one")
			link.Cut()
			k.cutOff(t, term, near, name)
			link.Heal()
			for i, want := range k.want {
				if l := o.next(t); l.Value != want || l.Gap != (i == k.gap) {
					t.Fatalf("observed %+v, want %q, gap %v", l, want, i == k.gap)
				}
			}
			for _, kv := range etcd.Dump(t, prefixOf(name)+"grant") { // all goes on
				if _, err := etcd.Client(t).Delete(within(t), string(kv.Key)); err != nil {
					t.Fatal(err)
				}
			}
			o.sees(t, "")
			o.quiet(t)
		})
	}
}
