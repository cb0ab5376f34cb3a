package lock_test

import (
	"context"
	"errors"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// Every request of the protocol is lost on its way there, on its way back, or
// delayed until all is over. A lateness says when the delayed one arrives.

type fate struct {
	name string
	arm  func(*coretest.Faults, coretest.Match) armed
}

// armed is a fault, and how to let its request arrive at last.
type armed struct {
	*coretest.Fault
	late *coretest.Late
}

func (a armed) arrive(tb testing.TB) {
	tb.Helper()
	if a.late != nil {
		deliver(tb, a.late)
	}
}

var fates = []fate{
	{"reply lost", func(f *coretest.Faults, m coretest.Match) armed { return armed{f.LoseReply(m), nil} }},
	{"replies lost", func(f *coretest.Faults, m coretest.Match) armed { return armed{f.LoseReply(m, coretest.Times(3)), nil} }},
	{"request lost", func(f *coretest.Faults, m coretest.Match) armed { return armed{f.LoseRequest(m), nil} }},
	{"request late", func(f *coretest.Faults, m coretest.Match) armed {
		l := f.Late(m)
		return armed{l.Fault, l}
	}},
}

// forFates runs f for every kind of lock and every fate.
func forFates(t *testing.T, f func(t *testing.T, k kind, with fate, name string)) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		for _, with := range fates {
			t.Run(with.name, func(t *testing.T) { f(t, k, with, name+"-"+with.name) })
		}
	})
}

// passOn checks that o owns, whatever arrives, until it lets go; that a rival
// owns next, whatever arrives; and that nothing is left.
func passOn(t *testing.T, k kind, name string, o *ownership, a armed) {
	t.Helper()
	again := acquireAfter(t, k, name, o, a)
	stillOwns(t, again)
	released(t, again)
	cleanedUp(t, name)
}

func acquireAfter(t *testing.T, k kind, name string, o *ownership, a armed) *ownership {
	t.Helper()
	rival := kindOf(k.rival)
	stillOwns(t, o)
	if _, err := rival.try(session(t), name)(within(t)); !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("a rival's try: %v, want ErrLocked", err)
	}
	waiter := background(t, within(t), rival.lock(session(t), name))
	tickets(t, name, ticketsOf(rival))
	released(t, o)
	next := served(t, waiter)
	if next.Token() <= o.Token() {
		t.Fatalf("token %d after %d", next.Token(), o.Token())
	}
	a.arrive(t)
	return next
}

func TestLostTry(t *testing.T) {
	forFates(t, func(t *testing.T, k kind, with fate, name string) {
		s, f := faulty(t)
		a := with.arm(f, tryRequest)
		if _, err := k.try(s, name)(within(t)); !errors.Is(err, core.ErrUnknownOutcome) {
			t.Fatalf("error %v, want ErrUnknownOutcome", err)
		}
		f.Clear()
		o := acquired(t, kindOf(k.rival).lock(session(t), name))
		a.arrive(t)
		stillOwns(t, o)
		released(t, o)
		cleanedUp(t, name)
	})
}

func TestLostTryOfAWait(t *testing.T) {
	forFates(t, func(t *testing.T, k kind, with fate, name string) {
		s, f := faulty(t)
		a := with.arm(f, tryRequest)
		o := acquired(t, k.lock(s, name))
		fired(t, a)
		passOn(t, k, name, o, a)
	})
}

// The late copy comes while the acquisition owns, not after it.
func TestLateTryWhileOwning(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		s, f := faulty(t)
		late := f.Late(tryRequest)
		o := acquired(t, k.lock(s, name))
		deliver(t, late)
		passOn(t, k, name, o, armed{})
	})
}

func TestLostEnter(t *testing.T) {
	forFates(t, func(t *testing.T, k kind, with fate, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s, f := faulty(t)
		a := with.arm(f, enterRequest)
		waiter := background(t, within(t), k.lock(s, name))
		fired(t, a)
		tickets(t, name, ticketsOf(k))
		released(t, owner)
		passOn(t, k, name, served(t, waiter), a)
	})
}

// The late copy comes while the ticket waits, and while its owner owns.
func TestLateEnterWhileWaitingAndOwning(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s, f := faulty(t)
		late := f.Late(enterRequest, coretest.Times(2))
		waiter := background(t, within(t), k.lock(s, name))
		if err := late.WaitTimes(within(t), 2); err != nil {
			t.Fatal(err)
		}
		tickets(t, name, ticketsOf(k))
		deliver(t, late)
		tickets(t, name, ticketsOf(k))
		stillOwns(t, owner)
		released(t, owner)
		o := served(t, waiter)
		deliver(t, late)
		passOn(t, k, name, o, armed{})
	})
}

func TestLostClaim(t *testing.T) {
	forFates(t, func(t *testing.T, k kind, with fate, name string) {
		dead := session(t)
		acquired(t, kindOf(k.rival).lock(dead, name))
		s, f := faulty(t)
		waiter := background(t, within(t), k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		a := with.arm(f, claimRequest)
		expire(t, dead)
		o := served(t, waiter)
		fired(t, a)
		passOn(t, k, name, o, a)
	})
}

func TestLostCancel(t *testing.T) {
	forFates(t, func(t *testing.T, k kind, with fate, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s, f := faulty(t)
		ctx, cancel := context.WithCancel(within(t))
		waiter := background(t, ctx, k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		a := with.arm(f, cancelRequest)
		cancel()
		if r := outcome(t, waiter); !errors.Is(r.err, context.Canceled) {
			t.Fatalf("error %v, want the context's", r.err)
		}
		fired(t, a)
		tickets(t, name, 0)
		// The same session waits again: a late cancel must not concern it.
		again := background(t, within(t), k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		a.arrive(t)
		tickets(t, name, ticketsOf(k))
		released(t, owner)
		passOn(t, k, name, served(t, again), armed{})
	})
}

// A wait is given up while its entry is under way: whether it entered is not
// known, and the void record that ends it is lost as well.
func TestLostVoid(t *testing.T) {
	forFates(t, func(t *testing.T, k kind, with fate, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s, f := faulty(t)
		entry := f.Late(enterRequest)
		ctx, cancel := context.WithCancel(within(t))
		retried := f.Hold(enterRequest)
		a := with.arm(f, voidRequest)
		waiter := background(t, ctx, k.lock(s, name))
		fired(t, retried)
		cancel()
		if r := outcome(t, waiter); !errors.Is(r.err, context.Canceled) {
			t.Fatalf("error %v, want the context's", r.err)
		}
		retried.Release()
		fired(t, a)
		eventually(t, "void record", func() bool { return voids(t, name) == 1 })
		deliver(t, entry)
		tickets(t, name, 0)
		released(t, owner)
		o := acquired(t, kindOf(k.rival).lock(session(t), name))
		a.arrive(t)
		stillOwns(t, o)
		released(t, o)
		cleanedUp(t, name)
	})
}

// The wait is given up before its entry arrives, and the name is free by then.
func TestVoidBeforeTheEntryArrives(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s, f := faulty(t)
		entry := f.Late(enterRequest, coretest.Silently())
		ctx, cancel := context.WithCancel(within(t))
		waiter := background(t, ctx, k.lock(s, name))
		fired(t, entry)
		cancel()
		if r := outcome(t, waiter); !errors.Is(r.err, context.Canceled) {
			t.Fatalf("error %v, want the context's", r.err)
		}
		eventually(t, "void record", func() bool { return voids(t, name) == 1 })
		released(t, owner)
		deliver(t, entry)
		cleanedUp(t, name)
		released(t, acquired(t, kindOf(k.rival).lock(session(t), name)))
	})
}

func TestLostRelease(t *testing.T) {
	forFates(t, func(t *testing.T, k kind, with fate, name string) {
		s, f := faulty(t)
		o := acquired(t, k.lock(s, name))
		a := with.arm(f, passRequest)
		released(t, o)
		fired(t, a)
		cleanedUp(t, name)
		again := acquired(t, k.lock(s, name))
		a.arrive(t)
		passOn(t, k, name, again, armed{})
	})
}

func TestLostHandover(t *testing.T) {
	forFates(t, func(t *testing.T, k kind, with fate, name string) {
		s, f := faulty(t)
		o := acquired(t, k.lock(s, name))
		waiter := background(t, within(t), kindOf(k.rival).lock(session(t), name))
		tickets(t, name, ticketsOf(kindOf(k.rival)))
		a := with.arm(f, passRequest)
		released(t, o)
		fired(t, a)
		next := served(t, waiter)
		a.arrive(t)
		passOn(t, kindOf(k.rival), name, next, armed{})
	})
}
