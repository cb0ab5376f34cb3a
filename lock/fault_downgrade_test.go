package lock_test

import (
	"context"
	"errors"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// downgradeRequest tells a downgrade from a release.
var downgradeRequest = coretest.All(asOwner, coretest.Puts("/read/"), coretest.Compares("/void/"))

// writers are how a writer came to own: at once, or in turn, with a ticket.
var writers = map[string]func(t *testing.T, s *core.Session, name string) *lock.Held{
	"at once": func(t *testing.T, s *core.Session, name string) *lock.Held {
		return locked(t, lock.NewRWMutex(s, name))
	},
	"in turn": func(t *testing.T, s *core.Session, name string) *lock.Held {
		first := locked(t, lock.NewRWMutex(session(t), name))
		second := background(t, within(t), kindOf("write").lock(s, name))
		tickets(t, name, 1)
		unlock(t, first)
		return served(t, second).Ownership.(*lock.Held)
	},
}

func forWriters(t *testing.T, f func(t *testing.T, s *core.Session, faults *coretest.Faults, w *lock.Held, with fate, name string)) {
	for how, own := range writers {
		for _, with := range fates {
			t.Run(how+", "+with.name, func(t *testing.T) {
				t.Parallel()
				name := etcd.Prefix(t)
				s, faults := faulty(t)
				f(t, s, faults, own(t, s, name), with, name)
			})
		}
	}
}

// A downgrade meets every fate: it reads in the end, and lets in the readers who
// wait, but no writer.
func TestLostDowngrade(t *testing.T) {
	forWriters(t, func(t *testing.T, _ *core.Session, faults *coretest.Faults, w *lock.Held, with fate, name string) {
		other := background(t, within(t), kindOf("read").lock(session(t), name))
		tickets(t, name, 1)
		writer := background(t, within(t), kindOf("write").lock(session(t), name))
		tickets(t, name, 2)
		a := with.arm(faults, downgradeRequest)
		r := must[*lock.Held](t)(w.Downgrade(within(t)))
		fired(t, a)
		if r.Token() <= w.Token() {
			t.Fatalf("token %d after %d", r.Token(), w.Token())
		}
		if cause := context.Cause(w.Context()); !errors.Is(cause, core.ErrReleased) {
			t.Fatalf("the writer's context: %v, want ErrReleased", cause)
		}
		o := served(t, other)
		a.arrive(t)
		stillOwns(t, &ownership{r, r.Unlock, r.Commit})
		unlock(t, r)
		stillOwns(t, o)
		released(t, o)
		last := served(t, writer)
		stillOwns(t, last)
		released(t, last)
		cleanedUp(t, name)
	})
}

// The caller of a downgrade gives up before it knows. Whatever became of it,
// Unlock ends it, and the next writer is served.
func TestDowngradeGivenUp(t *testing.T) {
	for how, own := range writers {
		for what, arm := range map[string]func(*coretest.Faults) armed{
			"reply lost": func(f *coretest.Faults) armed {
				return armed{f.LoseReply(downgradeRequest, coretest.Silently()), nil}
			},
			"request late": func(f *coretest.Faults) armed {
				l := f.Late(downgradeRequest, coretest.Silently())
				return armed{l.Fault, l}
			},
		} {
			t.Run(how+", "+what, func(t *testing.T) {
				t.Parallel()
				name := etcd.Prefix(t)
				s, faults := faulty(t)
				w := own(t, s, name)
				a := arm(faults)
				ctx, cancel := context.WithCancel(within(t))
				failed := make(chan error, 1)
				go func() {
					_, err := w.Downgrade(ctx)
					failed <- err
				}()
				fired(t, a)
				cancel()
				if err := <-failed; !errors.Is(err, core.ErrUnknownOutcome) {
					t.Fatalf("error %v, want ErrUnknownOutcome", err)
				}
				if err := w.Unlock(); err != nil && !errors.Is(err, lock.ErrLost) {
					t.Fatal(err)
				}
				a.arrive(t)
				o := acquired(t, kindOf("write").lock(session(t), name))
				stillOwns(t, o)
				released(t, o)
				cleanedUp(t, name)
			})
		}
	}
}
