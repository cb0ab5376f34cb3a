package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// The tests named TestP1 to TestP13 are faults that other libraries of recipes
// on etcd are known for, as far as they concern locks.

// P1: names that begin alike share nothing.
func TestP1NamesThatBeginAlike(t *testing.T) {
	name := etcd.Prefix(t)
	var held []*lock.Held
	for _, end := range []string{"", "2", "/2", "/line", "/line/7f", "/grant", "/read", "line"} {
		m := lock.NewMutex(session(t), name+end)
		held = append(held, must[*lock.Held](t)(m.TryLock(within(t))))
	}
	m := lock.NewMutex(session(t), name)
	if cs := must[[]lock.Contender](t)(m.Contenders(within(t))); len(cs) != 1 {
		t.Fatalf("contenders of one name: %v", cs)
	}
	if _, err := m.ForceRelease(within(t), "test"); err != nil {
		t.Fatal(err)
	}
	for _, h := range held[1:] {
		if _, err := h.Commit(within(t), clientv3.OpGet("x")); err != nil {
			t.Fatal(err)
		}
		unlock(t, h)
	}
}

// P2: a lock deletes no key but its own, and reads no foreign one as its own.
func TestP2ForeignKeysStay(t *testing.T) {
	name := etcd.Prefix(t)
	client := etcd.Client(t)
	foreign := []string{keyOf(name), keyOf(name) + "0", keyOf(name) + "-grant", keyOf(name) + "%2Fgrant", name, name + "/grant"}
	for _, key := range foreign {
		if _, err := client.Put(within(t), key, "mine"); err != nil {
			t.Fatal(err)
		}
	}
	for _, k := range kinds {
		if k.name != "multi" {
			o := acquired(t, k.lock(session(t), name))
			w := background(t, within(t), kindOf(k.rival).lock(session(t), name))
			tickets(t, name, 1)
			released(t, o)
			released(t, served(t, w))
		}
	}
	for _, key := range foreign {
		if got := must[*clientv3.GetResponse](t)(client.Get(within(t), key)); len(got.Kvs) != 1 || got.Kvs[0].Version != 1 {
			t.Errorf("key %q: %v", key, got.Kvs)
		}
	}
}

// P3: a lock is held for as long as its owner lives, beyond the lease's time.
func TestP3HeldBeyondTheTTL(t *testing.T) {
	t.Parallel()
	const ttl = 5 * time.Second
	s := session(t, core.WithTTL(ttl))
	h := locked(t, lock.NewMutex(s, etcd.Prefix(t)))
	renewed := make(chan struct{}, 16)
	s.OnRenewal(func(time.Duration) { renewed <- struct{}{} })
	for range 6 { // one at once, then every 1.5 s to 1.7 s
		select {
		case <-renewed:
		case <-within(t).Done():
			t.Fatal("no renewal")
		}
	}
	if _, err := h.Commit(within(t), clientv3.OpGet("x")); err != nil {
		t.Fatal(err)
	}
	unlock(t, h)
}

// P4: two objects of one session exclude each other, and the release of one is
// none of the other.
func TestP4TwoObjectsOfOneSession(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		s := session(t)
		o := acquired(t, k.lock(s, name))
		if _, err := kindOf(k.rival).try(s, name)(within(t)); !errors.Is(err, lock.ErrLocked) {
			t.Fatalf("error %v, want ErrLocked", err)
		}
		waiter := background(t, within(t), kindOf(k.rival).lock(s, name))
		stillOwns(t, o)
		released(t, o)
		next := served(t, waiter)
		released(t, o) // again
		stillOwns(t, next)
		released(t, next)
		cleanedUp(t, name)
	})
}

// P5: a release is repeated after a lost reply, while the same session waits to
// own again. The repetition must not end the newer ownership.
func TestP5RepeatedReleaseWithANewerOwnership(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		s, f := faulty(t)
		first := acquired(t, k.lock(s, name))
		lost := f.LoseReply(passRequest)
		again := f.Hold(passRequest)
		defer again.Release()
		release := make(chan error, 1)
		go func() { release <- first.release() }()
		fired(t, lost)
		second := acquired(t, k.lock(session(t), name))
		fired(t, again)
		again.Release()
		if err := <-release; err != nil {
			t.Fatal(err)
		}
		stillOwns(t, second)
		released(t, second)
		cleanedUp(t, name)
	})
}

// P7: a waiter learns that its session has died, and never owns by it.
func TestP7WaiterOfADeadSession(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		s := session(t)
		waiter := background(t, within(t), k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		expire(t, s)
		if r := outcome(t, waiter); !errors.Is(r.err, core.ErrSessionExpired) {
			t.Fatalf("error %v, want ErrSessionExpired", r.err)
		}
		stillOwns(t, owner)
		released(t, owner)
		cleanedUp(t, name)
	})
}

// P7, with the handover under way: the session dies between the release and the
// event that tells of it.
func TestP7WaiterHandedToAfterItsDeath(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		rival := kindOf(k.rival)
		owner := acquired(t, rival.lock(session(t), name))
		s := session(t)
		waiter := background(t, within(t), k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		behind := background(t, within(t), rival.lock(session(t), name))
		tickets(t, name, ticketsOf(k)+ticketsOf(rival))
		expire(t, s)
		released(t, owner)
		o := served(t, behind)
		if r := outcome(t, waiter); !errors.Is(r.err, core.ErrSessionExpired) {
			t.Fatalf("error %v, want ErrSessionExpired", r.err)
		}
		released(t, o)
		cleanedUp(t, name)
	})
}

// P8: of two writers that wait for a reader, the session of the first is dead.
func TestP8WriterOfADeadSession(t *testing.T) {
	name := etcd.Prefix(t)
	reader := must[*lock.Held](t)(lock.NewRWMutex(session(t), name).RLock(within(t)))
	s := session(t)
	dead := background(t, within(t), kindOf("write").lock(s, name))
	tickets(t, name, 1)
	alive := background(t, within(t), kindOf("write").lock(session(t), name))
	tickets(t, name, 2)
	expire(t, s)
	unlock(t, reader)
	o := served(t, alive)
	if r := outcome(t, dead); !errors.Is(r.err, core.ErrSessionExpired) {
		t.Fatalf("error %v, want ErrSessionExpired", r.err)
	}
	stillOwns(t, o)
	released(t, o)
	cleanedUp(t, name)
}

// P9: the release of what is not owned any more says so.
func TestP9ReleaseOfWhatIsLost(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		s := session(t)
		o := acquired(t, k.lock(s, name))
		for _, key := range left(t, name) {
			remove(t, key)
		}
		next := acquired(t, kindOf(k.rival).lock(session(t), name))
		if err := o.release(); !errors.Is(err, lock.ErrLost) || !errors.Is(err, core.ErrKeyDeleted) {
			t.Fatalf("error %v, want ErrLost and ErrKeyDeleted", err)
		}
		stillOwns(t, next)
		released(t, next)
		cleanedUp(t, name)
	})
}

// P9, for a session that has died.
func TestP9ReleaseAfterTheSessionsEnd(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		s := session(t)
		o := acquired(t, k.lock(s, name))
		expire(t, s)
		next := acquired(t, kindOf(k.rival).lock(session(t), name))
		if err := o.release(); !errors.Is(err, lock.ErrLost) {
			t.Fatalf("error %v, want ErrLost", err)
		}
		stillOwns(t, next)
		released(t, next)
		cleanedUp(t, name)
	})
}

// P10: a time to live that etcd would raise silently is refused.
func TestP10TimeToLiveIsNotRaised(t *testing.T) {
	for _, ttl := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
		_, err := core.NewSession(within(t), etcd.Client(t), core.WithTTL(ttl))
		if !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%v: error %v, want ErrInvalid", ttl, err)
		}
	}
	for _, ttl := range []time.Duration{5 * time.Second, 11 * time.Second} {
		s := session(t, core.WithTTL(ttl))
		got := must[*clientv3.LeaseTimeToLiveResponse](t)(etcd.Client(t).TimeToLive(within(t), s.Lease()))
		if got.GrantedTTL != int64(ttl/time.Second) {
			t.Errorf("%v: etcd granted %d s", ttl, got.GrantedTTL)
		}
	}
}

// P12 and P13: the watches of a waiter are lost, again and again. That is
// neither a release nor the end of the wait.
func TestP12LostWatchIsNoRelease(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t), name))
		link := etcd.Link(t)
		s, err := core.NewSession(within(t), coretest.Dial(t, link.Endpoint()), core.WithTTL(30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		waiter := background(t, ctx, k.lock(s, name))
		tickets(t, name, ticketsOf(k))
		for range 3 {
			link.Cut()
			compact(t)
			link.Heal()
			stillOwns(t, owner)
		}
		select {
		case r := <-waiter:
			t.Fatalf("the wait ended: %v", r.err)
		default:
		}
		released(t, owner)
		released(t, served(t, waiter))
		cleanedUp(t, name)
	})
}

// compact writes a few revisions and compacts away all that came before.
func compact(tb testing.TB) {
	tb.Helper()
	client := etcd.Client(tb)
	for range 5 {
		if _, err := client.Put(within(tb), "compacted", ""); err != nil {
			tb.Fatal(err)
		}
	}
	// Others compact too; a revision that has gone already is as good.
	_, _ = client.Compact(within(tb), etcd.Revision(tb))
}
