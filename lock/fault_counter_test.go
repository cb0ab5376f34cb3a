package lock_test

import (
	"context"
	"errors"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// The tests named TestC1 to TestC13 repeat the counter-examples that the search
// of the protocol found, on the code and a real etcd.

// C1: a waiting ticket is deleted by hand. Its client must not read that as a
// handover.
func TestC1DeletedTicketIsNoGrant(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		waiter := background(t, within(t), k.lock(session(t), name))
		tickets(t, name, ticketsOf(k))
		remove(t, inLine(t, name)[0])
		r := outcome(t, waiter)
		if !errors.Is(r.err, core.ErrKeyDeleted) {
			t.Fatalf("error %v, want ErrKeyDeleted", r.err)
		}
		stillOwns(t, owner)
		released(t, owner)
		cleanedUp(t, name)
	})
}

// ticketsOf is how many tickets an acquisition of k puts in line.
func ticketsOf(k kind) int {
	if k.name == "multi" {
		return 2
	}
	return 1
}

// C2: a try whose caller gave up is applied later. Nobody must own by it.
func TestC2AbandonedTryArrivesLate(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		s, f := faulty(t)
		late := f.Late(tryRequest)
		if _, err := k.try(s, name)(within(t)); !errors.Is(err, core.ErrUnknownOutcome) {
			t.Fatalf("error %v, want ErrUnknownOutcome", err)
		}
		eventually(t, "void record", func() bool { return voids(t, name) == 1 })
		deliver(t, late)
		if keys := left(t, name); len(keys) > 0 && k.limit() == 0 {
			t.Fatalf("the late try wrote %q", keys)
		}
		released(t, acquired(t, kindOf(k.rival).lock(session(t), name)))
		cleanedUp(t, name)
	})
}

// limit is the kind's limit of permits, if it has one.
func (k kind) limit() int { return map[string]int{"permit": 2, "permits": 3}[k.name] }

// deliver lets a request arrive that was held back; it may be refused.
func deliver(tb testing.TB, late *coretest.Late) {
	tb.Helper()
	if _, err := late.Deliver(within(tb)); errors.Is(err, coretest.ErrNothingHeld) {
		tb.Fatal(err)
	}
}

// C3: the try of a wait is lost, the wait goes on, owns and releases; then the
// try arrives. It must not take the name again.
func TestC3TryArrivesAfterTheRelease(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		s, f := faulty(t)
		late := f.Late(tryRequest)
		released(t, acquired(t, k.lock(s, name)))
		fired(t, late)
		deliver(t, late)
		cleanedUp(t, name)
		released(t, acquired(t, kindOf(k.rival).lock(session(t), name)))
	})
}

// C4: the handover comes before the reply to the entry. The watch on the own
// ticket stands already, so the waiter owns although it never hears the reply.
func TestC4HandoverBeforeTheReply(t *testing.T) {
	for _, k := range kinds {
		if k.name == "multi" || k.name == "permits" {
			continue // claim for themselves, and look at once
		}
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			name := etcd.Prefix(t)
			owner := acquired(t, kindOf(k.rival).lock(session(t), name))
			s, f := faulty(t)
			lost := f.LoseReply(enterRequest, coretest.Silently())
			waiter := background(t, within(t), k.lock(s, name))
			fired(t, lost)
			released(t, owner)
			o := served(t, waiter)
			stillOwns(t, o)
			released(t, o)
			cleanedUp(t, name)
		})
	}
}

// C6: the name is handed to a waiter that is just leaving. It is let go again.
func TestC6HandoverToALeavingWaiter(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s, f := faulty(t)
		ctx, cancel := context.WithCancel(within(t))
		waiter := background(t, ctx, k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		held := f.Hold(cancelRequest)
		defer held.Release()
		cancel()
		fired(t, held)
		released(t, owner)
		held.Release()
		if r := outcome(t, waiter); !errors.Is(r.err, context.Canceled) {
			t.Fatalf("error %v, want the context's", r.err)
		}
		released(t, acquired(t, kindOf(k.rival).lock(session(t), name)))
		cleanedUp(t, name)
	})
}

// C7: a release arrives when the same session owns the name again.
func TestC7LateReleaseOfAnEarlierOwnership(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		s, f := faulty(t)
		first := acquired(t, k.lock(s, name))
		late := f.Late(passRequest)
		released(t, first)
		fired(t, late)
		second := acquired(t, k.lock(s, name))
		deliver(t, late)
		stillOwns(t, second)
		released(t, second)
		cleanedUp(t, name)
	})
}

// C8a: the owner knows who is next; then a more urgent waiter comes.
func TestC8aUrgentWaiterAfterTheHint(t *testing.T) {
	name := etcd.Prefix(t)
	first := locked(t, lock.NewMutex(session(t), name))
	second := background(t, within(t), kindOf("mutex").lock(session(t), name))
	tickets(t, name, 1)
	third := background(t, within(t), kindOf("mutex").lock(session(t), name))
	tickets(t, name, 2)
	unlock(t, first)
	o := served(t, second) // knows of the third by the handover
	urgent := background(t, within(t), ofHeld(lock.NewMutex(session(t), name, lock.WithPriority(1)).Lock))
	tickets(t, name, 2)
	released(t, o)
	u := served(t, urgent)
	select {
	case r := <-third:
		t.Fatalf("the less urgent waiter was served first: %v", r.err)
	default:
	}
	released(t, u)
	released(t, served(t, third))
	cleanedUp(t, name)
}

// C8b: a waiter claims on what it saw before a more urgent one came and took
// the name.
func TestC8bClaimOnAnOldLook(t *testing.T) {
	urgent := lock.WithPriority(5)
	writer := func(s *core.Session, name string) acquirer { return ofHeld(lock.NewMutex(s, name, urgent).Lock) }
	reader := func(s *core.Session, name string) acquirer { return ofHeld(lock.NewRWMutex(s, name, urgent).RLock) }
	permits := func(n int) func(*core.Session, string) acquirer {
		return func(s *core.Session, name string) acquirer {
			return ofPermit(n, lock.NewSemaphore(s, name, n, urgent).Acquire)
		}
	}
	first := func(s *core.Session, name string) acquirer { return writer(s, namesOf(name)[0]) }
	second := func(s *core.Session, name string) acquirer { return reader(s, namesOf(name)[1]) }
	for what, c := range map[string]struct {
		kind   string
		urgent func(*core.Session, string) acquirer
	}{
		"writer before mutex": {"mutex", writer}, "reader before mutex": {"mutex", reader},
		"writer before writer": {"write", writer}, "reader before writer": {"write", reader}, "writer before reader": {"read", writer},
		"permit before permit": {"permit", permits(2)}, "permits before permits": {"permits", permits(3)},
		"writer before multi": {"multi", first}, "reader before multi": {"multi", second},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			claimOnAnOldLook(t, kindOf(c.kind), etcd.Prefix(t), c.urgent)
		})
	}
}

func claimOnAnOldLook(t *testing.T, k kind, name string, urgent func(*core.Session, string) acquirer) {
	dead := session(t)
	acquired(t, kindOf(k.rival).lock(dead, name))
	s, f := faulty(t)
	waiter := background(t, within(t), k.lock(s, name))
	tickets(t, name, ticketsOf(k))
	held := f.Hold(claimRequest)
	defer held.Release()
	expire(t, dead)
	fired(t, held)
	o := acquired(t, urgent(session(t), name))
	look := f.Hold(lookRequest)
	defer look.Release()
	held.Release()
	fired(t, look) // the claim was refused
	stillOwns(t, o)
	look.Release()
	released(t, o)
	released(t, served(t, waiter))
	cleanedUp(t, name)
}

// C8c: the owner is dead and the first in line has not claimed yet. A newcomer
// finds no grant, and must not take the name all the same.
func TestC8cNewcomerAfterTheOwnersDeath(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		dead := session(t)
		acquired(t, kindOf(k.rival).lock(dead, name))
		s, f := faulty(t)
		waiter := background(t, within(t), k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		held := f.Hold(claimRequest)
		defer held.Release()
		expire(t, dead)
		fired(t, held)
		rival := kindOf(k.rival)
		if _, err := rival.try(session(t), name)(within(t)); !errors.Is(err, lock.ErrLocked) {
			t.Fatalf("try: %v, want ErrLocked", err)
		}
		newcomer := background(t, within(t), rival.lock(session(t), name))
		tickets(t, name, ticketsOf(k)+ticketsOf(rival))
		held.Release()
		released(t, served(t, waiter))
		released(t, served(t, newcomer))
		cleanedUp(t, name)
	})
}

// C9: two sets of names with different priorities: neither may own a part while
// it waits for the rest.
func TestC9SetsWithPriorities(t *testing.T) {
	name := etcd.Prefix(t)
	a, b := name+"-a", name+"-b"
	owner := locked(t, lock.NewMutex(session(t), b))
	low := background(t, within(t), ofHeld(lock.NewMulti(session(t), []string{a, b}).Lock))
	tickets(t, name, 2)
	urgent := background(t, within(t), ofHeld(lock.NewMulti(session(t), []string{b, a}, lock.WithPriority(1)).Lock))
	tickets(t, name, 4)
	unlock(t, owner)
	released(t, served(t, urgent))
	released(t, served(t, low))
	cleanedUp(t, name)
}
