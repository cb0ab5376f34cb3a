package waitqueue

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// The release of an owner that others of its session wait behind: it makes one
// of them the owner, or puts its ticket, in the same transaction. These tests
// lose that transaction.

// fates are what becomes of one release. The function that they return lets a
// delayed request arrive.
var fates = map[string]func(t *testing.T, f *coretest.Faults) (fault *coretest.Fault, arrive func()){
	"reply lost": func(_ *testing.T, f *coretest.Faults) (*coretest.Fault, func()) {
		return f.LoseReply(release), func() {}
	},
	"replies lost": func(_ *testing.T, f *coretest.Faults) (*coretest.Fault, func()) {
		return f.LoseReply(release, coretest.Times(3)), func() {}
	},
	"request lost": func(_ *testing.T, f *coretest.Faults) (*coretest.Fault, func()) {
		return f.LoseRequest(release, coretest.Times(2)), func() {}
	},
	"request late": func(t *testing.T, f *coretest.Faults) (*coretest.Fault, func()) {
		l := f.Late(release)
		return l.Fault, func() {
			t.Helper()
			if _, err := l.Deliver(bounded(t)); errors.Is(err, coretest.ErrNothingHeld) {
				t.Fatal(err)
			}
		}
	},
}

// owners are how the name is owned before: at once, or by a handover, with a
// ticket and with hints.
var owners = map[string]func(t *testing.T, q *Queue, name string) *Owned{
	"at once": func(t *testing.T, q *Queue, name string) *Owned { return acquired(t, q, exclusive(name)) },
	"in turn": func(t *testing.T, q *Queue, name string) *Owned {
		other, _ := open(t)
		first := acquired(t, other, exclusive(name))
		second := background(t, bounded(t), q, exclusive(name))
		tickets(t, name, 1)
		released(t, first)
		return served(t, second)
	},
}

func forReleases(t *testing.T, f func(t *testing.T, q *Queue, faults *coretest.Faults, o *Owned, name, fate string)) {
	for how, own := range owners {
		for fate := range fates {
			t.Run(how+", "+fate, func(t *testing.T) {
				t.Parallel()
				name := etcd.Prefix(t)
				q, faults := open(t)
				f(t, q, faults, own(t, q, name), name, fate)
			})
		}
	}
}

// Nobody else waits: the local successor owns by the release.
func TestLostReleaseToALocalSuccessor(t *testing.T) {
	forReleases(t, func(t *testing.T, q *Queue, faults *coretest.Faults, o *Owned, name, fate string) {
		next := background(t, bounded(t), q, exclusive(name))
		queued(t, q, name, 1)
		fault, arrive := fates[fate](t, faults)
		released(t, o)
		if fault.Fired() == 0 {
			t.Fatal("the fault met no release")
		}
		n := served(t, next)
		if n.Token() <= o.Token() {
			t.Fatalf("token %d after %d", n.Token(), o.Token())
		}
		arrive()
		stillOwns(t, n)
		released(t, n)
		cleanedUp(t, name)
	})
}

// Another session waits as well: it is served, and the local successor's ticket
// stands behind it.
func TestLostReleaseToAnotherWithALocalSuccessor(t *testing.T) {
	forReleases(t, func(t *testing.T, q *Queue, faults *coretest.Faults, o *Owned, name, fate string) {
		other, _ := open(t)
		remote := background(t, bounded(t), other, exclusive(name))
		tickets(t, name, 1)
		local := background(t, bounded(t), q, exclusive(name))
		queued(t, q, name, 1)
		_, arrive := fates[fate](t, faults)
		released(t, o)
		r := served(t, remote)
		stillOwns(t, r)
		tickets(t, name, 1)
		released(t, r)
		l := served(t, local)
		if l.Token() <= r.Token() || r.Token() <= o.Token() {
			t.Fatalf("tokens %d, %d, %d", o.Token(), r.Token(), l.Token())
		}
		arrive()
		stillOwns(t, l)
		released(t, l)
		cleanedUp(t, name)
	})
}

// The successor gives up while the release that names it is under way.
func TestLocalSuccessorLeavesDuringTheRelease(t *testing.T) {
	forReleases(t, func(t *testing.T, q *Queue, faults *coretest.Faults, o *Owned, name, fate string) {
		ctx, cancel := context.WithCancel(bounded(t))
		leaving := background(t, ctx, q, exclusive(name))
		queued(t, q, name, 1)
		last := background(t, bounded(t), q, exclusive(name))
		queued(t, q, name, 2)
		_, arrive := fates[fate](t, faults)
		held := faults.Hold(release)
		done := make(chan error, 1)
		go func() { done <- o.Release() }()
		if err := held.Wait(bounded(t)); err != nil {
			held.Release() // the reply was lost, and the repetition needed none
		}
		cancel()
		if r := outcome(t, leaving); !errors.Is(r.err, context.Canceled) {
			t.Fatalf("error %v, want the context's", r.err)
		}
		held.Release()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		l := served(t, last)
		arrive()
		stillOwns(t, l)
		released(t, l)
		cleanedUp(t, name)
	})
}

// The release of a tenure that was handed from goroutine to goroutine.
func TestLostReleaseAfterLocalHandover(t *testing.T) {
	for fate := range fates {
		t.Run(fate, func(t *testing.T) {
			t.Parallel()
			name := etcd.Prefix(t)
			q, faults := open(t)
			local := func() *Request {
				r := exclusive(name)
				r.LocalN, r.LocalFor = 2, 4*patience
				return r
			}
			a := acquired(t, q, local())
			b := background(t, bounded(t), q, local())
			queued(t, q, name, 1)
			released(t, a)
			second := served(t, b)
			c := background(t, bounded(t), q, local())
			queued(t, q, name, 1)
			fault, arrive := fates[fate](t, faults)
			released(t, second) // the second of two: the third owns by a write
			if fault.Fired() == 0 {
				t.Fatal("the fault met no release")
			}
			third := served(t, c)
			if second.Token() <= a.Token() || third.Token() <= second.Token() {
				t.Fatalf("tokens %d, %d, %d", a.Token(), second.Token(), third.Token())
			}
			arrive()
			stillOwns(t, third)
			released(t, third)
			cleanedUp(t, name)
		})
	}
}

// The owner is forced out while others of its session wait behind it: they go on.
func TestForcedOutWithALocalSuccessor(t *testing.T) {
	for how, own := range owners {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			name := etcd.Prefix(t)
			q, _ := open(t)
			o := own(t, q, name)
			next := background(t, bounded(t), q, exclusive(name))
			queued(t, q, name, 1)
			operator, _ := open(t)
			if _, err := operator.Force(bounded(t), name, "test"); err != nil {
				t.Fatal(err)
			}
			n := served(t, next)
			if err := o.Release(); !errors.Is(err, errLost) {
				t.Fatalf("release: %v, want a loss", err)
			}
			stillOwns(t, n)
			released(t, n)
			cleanedUp(t, name)
		})
	}
}

// etcd answers renewals but no release, for longer than the TTL. The caller is
// told that the outcome is unknown; the release goes on, and the name is free
// when etcd answers again, whatever arrives late.
func TestReleaseGoesOnAfterItsCallerWasTold(t *testing.T) {
	for what, arm := range map[string]func(*coretest.Faults) (*coretest.Fault, *coretest.Late){
		"requests lost": func(f *coretest.Faults) (*coretest.Fault, *coretest.Late) {
			return f.LoseRequest(release, coretest.Always()), nil
		},
		"requests late": func(f *coretest.Faults) (*coretest.Fault, *coretest.Late) {
			l := f.Late(release, coretest.Always())
			return l.Fault, l
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := etcd.Prefix(t)
			q, faults := openFor(t, 5*time.Second)
			other, _ := open(t)
			o := acquired(t, q, exclusive(name))
			local := background(t, bounded(t), q, exclusive(name))
			queued(t, q, name, 1)
			fault, late := arm(faults)
			if err := o.Release(); !errors.Is(err, core.ErrUnknownOutcome) {
				t.Fatalf("error %v, want ErrUnknownOutcome", err)
			}
			fault.Disarm()
			n := served(t, local)
			remote := background(t, bounded(t), other, exclusive(name))
			tickets(t, name, 1)
			if late != nil {
				for {
					if _, err := late.Deliver(bounded(t)); errors.Is(err, coretest.ErrNothingHeld) {
						break
					}
				}
			}
			stillOwns(t, n)
			released(t, n)
			released(t, served(t, remote))
			cleanedUp(t, name)
		})
	}
}
