package lock_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// kill ends a host as a signal would: nothing that it has to say reaches etcd.
func (h *host) kill(faults *coretest.Faults) {
	faults.LoseRequest(func(string, any) bool { return true }, coretest.Always(), coretest.Silently())
	h.Close()
}

// A lastWord is what became of the request that a host had sent when it was killed.
type lastWord struct {
	name string
	arm  func(*coretest.Faults, coretest.Match) (sent *coretest.Fault, late *coretest.Late)
}

func lastWords() []lastWord {
	return []lastWord{
		{"applied", func(f *coretest.Faults, m coretest.Match) (*coretest.Fault, *coretest.Late) {
			return f.LoseReply(m, coretest.Silently()), nil
		}},
		{"lost", func(f *coretest.Faults, m coretest.Match) (*coretest.Fault, *coretest.Late) {
			return f.LoseRequest(m, coretest.Silently()), nil
		}},
		{"late", func(f *coretest.Faults, m coretest.Match) (*coretest.Fault, *coretest.Late) {
			l := f.Late(m, coretest.Silently())
			return l.Fault, l
		}},
	}
}

// deliverIf lets the late request arrive, if there is one.
func deliverIf(tb testing.TB, late *coretest.Late) {
	tb.Helper()
	if late == nil {
		return
	}
	if _, err := late.Deliver(within(tb)); err != nil {
		tb.Errorf("the late request: %v", err)
	}
}

// A host is killed with each of its requests under way, which then is applied,
// lost, or applied when the session has long gone on at another host.
func TestHostKilledInEveryState(t *testing.T) {
	for _, state := range []struct {
		name string
		held bool // by somebody else, so that the call waits
		sent func(name string) coretest.Match
	}{
		{"Try", false, func(n string) coretest.Match {
			return coretest.All(coretest.Puts("/"+n+"/grant"), coretest.Not(coretest.Puts("/"+n+"/line/")))
		}},
		{"Enter", true, func(n string) coretest.Match { return coretest.Puts("/" + n + "/line/") }},
	} {
		for _, f := range lastWords() {
			t.Run(state.name+" "+f.name, func(t *testing.T) {
				name := fmt.Sprintf("killed-%s-%s", state.name, f.name)
				faults := coretest.NewFaults()
				caller, library, dead, next := session(t), session(t), newHost(t, faults.DialOptions()...), newHost(t)
				var held *lock.Held
				if state.held {
					held = locked(t, lock.NewMutex(library, name))
				}
				sent, late := f.arm(faults, state.sent(name))
				call := locking(t, dead.mutex(t, caller, name))
				if err := sent.Wait(within(t)); err != nil {
					t.Fatal(err)
				}
				dead.kill(faults)
				if _, err := call.result(t); err == nil {
					t.Fatal("the call at the killed host succeeded")
				}
				again := locking(t, next.mutex(t, caller, name))
				if held != nil {
					waiting(t, lock.NewMutex(library, name), 1)
					unlock(t, held)
				}
				unlock(t, again.get(t))
				deliverIf(t, late)
				nothingLeft(t, name)
				unlock(t, must[*lock.Held](t)(lock.NewMutex(library, name).TryLock(within(t))))
			})
		}
	}
}

func TestHostKilledWhileItReleases(t *testing.T) {
	for _, f := range lastWords() {
		t.Run(f.name, func(t *testing.T) {
			name := "killed-release-" + f.name
			faults := coretest.NewFaults()
			caller, dead, next := session(t), newHost(t, faults.DialOptions()...), newHost(t)
			held := locked(t, dead.mutex(t, caller, name))
			later := locking(t, lock.NewMutex(session(t), name))
			waiting(t, lock.NewMutex(caller, name), 1)
			sent, late := f.arm(faults, coretest.Puts("/"+name+"/grant")) // the handover
			release := inBackground(func() (struct{}, error) { return struct{}{}, held.Unlock() })
			if err := sent.Wait(within(t)); err != nil {
				t.Fatal(err)
			}
			dead.kill(faults)
			_, _ = release.result(t)
			err := next.release(t, caller, name, held.Token())
			if f.name == "applied" && !errors.Is(err, lock.ErrLost) || f.name != "applied" && err != nil {
				t.Errorf("at the next host: %v", err)
			}
			h := later.get(t)
			deliverIf(t, late)
			if _, err := h.Commit(within(t), clientv3.OpPut(etcd.Prefix(t), "")); err != nil {
				t.Errorf("the late release reached the next owner: %v", err)
			}
			unlock(t, h)
			nothingLeft(t, name)
		})
	}
}

// Of an acquisition that its own host has repeated, one copy is still under way
// when another host releases the lock by its token.
func TestLateCopyAfterAReleaseByToken(t *testing.T) {
	faults := coretest.NewFaults()
	caller, library, one, two := session(t), session(t), newHost(t, faults.DialOptions()...), newHost(t)
	unlock(t, locked(t, one.mutex(t, caller, t.Name()+"-before"))) // the session is at home there
	held := locked(t, lock.NewMutex(library, t.Name()))
	late := faults.Late(coretest.Puts("/" + t.Name() + "/line/"))
	call := locking(t, one.mutex(t, caller, t.Name()))
	waiting(t, lock.NewMutex(library, t.Name()), 1)
	unlock(t, held)
	h := call.get(t)
	if err := two.release(t, caller, t.Name(), h.Token()); err != nil {
		t.Fatal(err)
	}
	deliverIf(t, late)
	nothingLeft(t, t.Name())
	// The host that was left finds the session gone elsewhere, and fetches it back.
	for _, again := range []*host{one, two, one} {
		unlock(t, locked(t, again.mutex(t, caller, t.Name())))
	}
	nothingLeft(t, t.Name())
}

// A caller asks two hosts, goes by the first answer and cancels the other call.
func TestTheSlowerCallDoesNotTakeTheLockAway(t *testing.T) {
	caller, library, one, two := session(t), session(t), newHost(t), newHost(t)
	for range 20 {
		held := locked(t, lock.NewMutex(library, t.Name()))
		first := locking(t, one.mutex(t, caller, t.Name()))
		waiting(t, lock.NewMutex(library, t.Name()), 1)
		ctx, cancel := context.WithCancel(within(t))
		second := inBackground(func() (*lock.Held, error) { return two.mutex(t, caller, t.Name()).Lock(ctx) })
		if rand.N(2) == 0 {
			voids := func() bool { return len(keysOf(t, t.Name())) > len(standing(t, t.Name())) }
			eventually(t, "the second host has taken the place up", voids)
		}
		unlock(t, held)
		h := first.get(t)
		cancel()
		_, _ = second.result(t)
		if _, err := h.Commit(within(t), clientv3.OpPut(etcd.Prefix(t), "")); err != nil {
			t.Fatalf("the lock is gone: %v", err)
		}
		unlock(t, h)
	}
	nothingLeft(t, t.Name())
}

// A fleet is hosts of which one is killed, and replaced, now and then.
type fleet struct {
	mu     sync.Mutex
	hosts  []*host
	faults []*coretest.Faults
}

func newFleet(tb testing.TB, n int) *fleet {
	f := &fleet{hosts: make([]*host, n), faults: make([]*coretest.Faults, n)}
	for i := range n {
		f.replace(tb, i)
	}
	return f
}

// replace starts a host in the place of another one, and kills that.
func (f *fleet) replace(tb testing.TB, i int) {
	faults := coretest.NewFaults()
	fresh := newHost(tb, faults.DialOptions()...)
	f.mu.Lock()
	old, oldFaults := f.hosts[i], f.faults[i]
	f.hosts[i], f.faults[i] = fresh, faults
	f.mu.Unlock()
	if old != nil {
		old.kill(oldFaults)
	}
}

// serve returns the caller's session at any host.
func (f *fleet) serve(caller *core.Session) *core.Session {
	for {
		f.mu.Lock()
		h := f.hosts[rand.N(len(f.hosts))]
		f.mu.Unlock()
		s, err := h.Session(core.Loan{Lease: caller.Lease(), TTL: caller.TTL(), Owner: caller.Owner(), Namespace: caller.Namespace()})
		if err == nil { // else it was killed meanwhile
			return s
		}
	}
}

// Callers of hosts and library users take turns, while hosts are killed. Every
// caller acquires at any host, gives up now and then, and releases at any host.
func TestHostsStress(t *testing.T) {
	const callers, users, rounds = 4, 2, 25
	f := newFleet(t, 3)
	var inside, done atomic.Int32
	var last atomic.Int64
	critical := func(tok core.Token) {
		if inside.Add(1) != 1 {
			t.Error("two inside")
		}
		if before := last.Swap(int64(tok)); before >= int64(tok) {
			t.Errorf("token %d follows %d", tok, before)
		}
		inside.Add(-1)
	}
	var wg sync.WaitGroup
	for range users {
		m := lock.NewMutex(session(t), t.Name())
		wg.Go(func() {
			for done.Load() < callers {
				h, err := m.Lock(within(t))
				if err != nil {
					t.Error(err)
					return
				}
				critical(h.Token())
				_ = h.Unlock()
			}
		})
	}
	for range callers {
		caller := session(t)
		wg.Go(func() {
			defer done.Add(1)
			for range rounds {
				if rand.N(4) == 0 {
					f.replace(t, rand.N(3))
				}
				f.acquireAnywhere(t, caller, critical)
			}
		})
	}
	wg.Wait()
	nothingLeft(t, t.Name())
}

// acquireAnywhere acquires at one host after the other until one answers, and
// releases at any.
func (f *fleet) acquireAnywhere(t *testing.T, caller *core.Session, critical func(core.Token)) {
	var held *lock.Held
	for held == nil {
		ctx, cancel := context.WithCancel(within(t))
		if rand.N(4) == 0 {
			go cancel()
		}
		held, _ = lock.NewMutex(f.serve(caller), t.Name(), lock.WithOnePerSession()).Lock(ctx)
		cancel()
	}
	critical(held.Token())
	for {
		h, err := lock.Resume(within(t), f.serve(caller), t.Name(), held.Token())
		if err == nil {
			err = h.Unlock()
		}
		if err == nil || errors.Is(err, lock.ErrLost) && (errors.Is(err, core.ErrReleased) || errors.Is(err, core.ErrKeyDeleted)) {
			return
		}
	}
}
