package lock_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// What the search of the code's own model found, beyond the protocol's: mostly
// a forced release or a deletion by hand that meets a lost reply.

// force takes what is under name from whoever owns it.
func force(tb testing.TB, name string) {
	tb.Helper()
	if _, err := lock.NewMutex(session(tb), name).ForceRelease(within(tb), "test"); err != nil {
		tb.Fatal(err)
	}
}

// forced is how the name of a kind is taken from its owner: of a set's names,
// one.
func forced(k kind, name string) string {
	if k.name == "multi" {
		return namesOf(name)[1]
	}
	return name
}

// An owner is forced out, and then a late copy of its entry takes the name once
// more. Its release must leave neither.
func TestForcedOutThenGrantedByALateEntry(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s, f := faulty(t)
		late := f.Late(enterRequest)
		waiter := background(t, within(t), k.lock(s, name))
		fired(t, late)
		tickets(t, name, ticketsOf(k))
		released(t, owner)
		o := served(t, waiter)
		hold := f.Hold(passRequest) // its own release comes after all of this
		defer hold.Release()
		force(t, forced(k, name))
		deliver(t, late)
		hold.Release()
		if err := o.release(); !errors.Is(err, lock.ErrLost) {
			t.Fatalf("error %v, want ErrLost", err)
		}
		cleanedUp(t, name)
		released(t, acquired(t, kindOf(k.rival).lock(session(t), name)))
	})
}

// The reply to an entry that took the names is lost, and an operator takes one
// of them before the entry is repeated.
func TestForcedOutBeforeTheEntryIsRepeated(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		// Free, but not for a try that somebody waits before.
		s, f := faulty(t)
		f.LoseRequest(tryRequest)
		lost := f.LoseReply(enterRequest)
		again := f.Hold(enterRequest)
		defer again.Release()
		waiter := background(t, within(t), k.lock(s, name))
		fired(t, lost)
		fired(t, again)
		force(t, forced(k, name))
		again.Release()
		r := outcome(t, waiter)
		if r.err == nil {
			// It entered once more, and owns by that.
			stillOwns(t, r.own)
			released(t, r.own)
		} else if !errors.Is(r.err, core.ErrRevoked) {
			t.Fatalf("error %v, want ErrRevoked", r.err)
		}
		cleanedUp(t, name)
		released(t, acquired(t, kindOf(k.rival).lock(session(t), name)))
	})
}

// A claim was applied and nobody knows; an operator takes the name, and the
// caller gives up.
func TestForcedOutAfterALostClaimThenCancelled(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		dead := session(t)
		acquired(t, kindOf(k.rival).lock(dead, name))
		s, f := faulty(t)
		ctx, cancel := context.WithCancel(within(t))
		waiter := background(t, ctx, k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		lost := f.LoseReply(claimRequest, coretest.Silently())
		expire(t, dead)
		fired(t, lost)
		force(t, forced(k, name))
		cancel()
		if r := outcome(t, waiter); r.err == nil {
			released(t, r.own) // its own ticket's event told in time
		}
		cleanedUp(t, name)
		released(t, acquired(t, kindOf(k.rival).lock(session(t), name)))
	})
}

// An operator takes the name while the release is under way and its reply lost.
func TestForcedOutDuringALostRelease(t *testing.T) {
	forFates(t, func(t *testing.T, k kind, with fate, name string) {
		s, f := faulty(t)
		o := acquired(t, k.lock(s, name))
		a := with.arm(f, passRequest)
		release := make(chan error, 1)
		go func() { release <- o.release() }()
		fired(t, a)
		force(t, forced(k, name))
		if err := <-release; err != nil && !errors.Is(err, lock.ErrLost) {
			t.Fatal(err)
		}
		next := acquired(t, kindOf(k.rival).lock(session(t), name))
		a.arrive(t)
		stillOwns(t, next)
		released(t, next)
		cleanedUp(t, name)
	})
}

// One ticket of a set is deleted by hand: the others go with it.
func TestSetThatLostOneTicket(t *testing.T) {
	name := etcd.Prefix(t)
	for i := range namesOf(name) {
		owner := acquired(t, kindOf("multi").lock(session(t), name))
		waiter := background(t, within(t), kindOf("multi").lock(session(t), name))
		tickets(t, name, 2)
		remove(t, inLine(t, name)[i])
		if r := outcome(t, waiter); !errors.Is(r.err, core.ErrKeyDeleted) {
			t.Fatalf("error %v, want ErrKeyDeleted", r.err)
		}
		tickets(t, name, 0)
		released(t, owner)
		cleanedUp(t, name)
	}
}

// The same, when its client does not know whether the tickets are in line.
func TestSetOfUnknownEntryThatLostOneTicket(t *testing.T) {
	name := etcd.Prefix(t)
	for i := range namesOf(name) {
		owner := acquired(t, kindOf("multi").lock(session(t), name))
		s, f := faulty(t)
		f.LoseReply(enterRequest)
		again := f.Hold(enterRequest)
		defer again.Release() //nolint:gocritic // for when the round fails; it is released below
		waiter := background(t, within(t), kindOf("multi").lock(s, name))
		fired(t, again)
		remove(t, inLine(t, name)[i])
		again.Release()
		if r := outcome(t, waiter); !errors.Is(r.err, core.ErrKeyDeleted) {
			t.Fatalf("error %v, want ErrKeyDeleted", r.err)
		}
		tickets(t, name, 0)
		released(t, owner)
		cleanedUp(t, name)
	}
}

// An owner's grant is deleted by hand: it learns that it has lost, and what else
// it had in etcd goes.
func TestGrantDeletedByHand(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		first := acquired(t, kindOf(k.rival).lock(session(t), name))
		waiter := background(t, within(t), k.lock(session(t), name))
		tickets(t, name, ticketsOf(k))
		released(t, first)
		o := served(t, waiter) // with a ticket
		behind := background(t, within(t), kindOf(k.rival).lock(session(t), name))
		tickets(t, name, ticketsOf(kindOf(k.rival)))
		for _, key := range left(t, name) {
			if strings.HasSuffix(key, "/grant") || strings.Contains(key, "/read/") || strings.Contains(key, "/hold/") {
				remove(t, key)
				break
			}
		}
		select {
		case <-o.Context().Done():
		case <-within(t).Done():
			t.Fatal("the owner never heard of it")
		}
		if cause := context.Cause(o.Context()); !errors.Is(cause, core.ErrKeyDeleted) {
			t.Fatalf("cause %v, want ErrKeyDeleted", cause)
		}
		released(t, served(t, behind))
		if err := o.release(); !errors.Is(err, lock.ErrLost) {
			t.Fatalf("release: %v, want ErrLost", err)
		}
		cleanedUp(t, name)
	})
}

// A limit that nobody uses any more stands in the way of nobody.
func TestMutexAfterAStaleLimit(t *testing.T) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			name := etcd.Prefix(t)
			names := []string{name}
			if k.name == "multi" {
				names = namesOf(name)
			}
			for _, n := range names {
				dead := session(t)
				acquired(t, ofPermit(1, lock.NewSemaphore(dead, n, 2).Acquire))
				expire(t, dead)
			}
			s := session(t)
			for range 3 {
				released(t, acquired(t, k.try(s, name)))
			}
			cleanedUp(t, name)
		})
	}
}

// The session of an operator ends while a forced release looks or tells: the
// error says that, and not only that a request was canceled.
func TestSessionEndsDuringForceRelease(t *testing.T) {
	for _, c := range []struct {
		what    string
		match   coretest.Match
		unknown bool // whether something was written
	}{
		{"look", lookRequest, false},
		{"tell", coretest.Puts("/notice/"), true},
	} {
		t.Run(c.what, func(t *testing.T) {
			name := etcd.Prefix(t)
			o := acquired(t, kindOf("mutex").lock(session(t), name))
			s, f := faulty(t, core.WithTTL(6*time.Second)) // it hears of its end within a third of that
			hold := f.Hold(c.match)
			forcing := inBackground(func() (core.Token, error) { return lock.NewMutex(s, name).ForceRelease(within(t), "test") })
			fired(t, hold)
			expire(t, s)
			_, err := forcing.result(t)
			if !errors.Is(err, core.ErrSessionExpired) || errors.Is(err, core.ErrUnknownOutcome) != c.unknown {
				t.Errorf("error %v, want ErrSessionExpired", err)
			}
			released(t, o)
		})
	}
}
