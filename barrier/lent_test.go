package barrier_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// A host serves sessions of callers, as a host of the API does: all state is on
// its way to etcd or in there.
type host struct{ *core.Lender }

func newHost(tb testing.TB, dial ...grpc.DialOption) *host {
	tb.Helper()
	h := &host{core.NewLender(etcd.Client(tb, dial...))}
	tb.Cleanup(h.Close)
	return h
}

// of is the caller's session as the host has it.
func (h *host) of(tb testing.TB, caller *core.Session) *core.Session {
	tb.Helper()
	return must[*core.Session](tb)(h.Session(core.Loan{Lease: caller.Lease(), TTL: caller.TTL(), Owner: caller.Owner(), Namespace: caller.Namespace()}))
}

func (h *host) double(tb testing.TB, caller *core.Session, name string, parties int) *barrier.Double {
	tb.Helper()
	return barrier.NewDouble(h.of(tb, caller), name, parties, barrier.WithOnePerSession())
}

// TestAWaitGoesOnAtAnotherHost ends a host below a wait: the caller asks another
// one, and has kept its place; any host lets it leave by its token.
func TestAWaitGoesOnAtAnotherHost(t *testing.T) {
	name := etcd.Prefix(t)
	one, two, caller := newHost(t), newHost(t), session(t)
	c := entering(within(t), one.double(t, caller, name, 2))
	tickets(t, name, 1)
	one.Close()
	_, err := c.result(t)
	isAll(t, err, core.ErrSessionClosed)
	tickets(t, name, 1)
	c = entering(within(t), two.double(t, caller, name, 2))
	other := must[*barrier.Entry](t)(barrier.NewDouble(session(t), name, 2).Enter(within(t)))
	e := c.get(t)
	e.Detach()
	isAll(t, over(t, e), barrier.ErrDetached)
	again := must[*barrier.Entry](t)(two.double(t, caller, name, 2).Enter(within(t))) // asked again: the same entry
	if again.Token() != e.Token() || again.Generation() != e.Generation() {
		t.Errorf("token %d in generation %d, want %d in %d", again.Token(), again.Generation(), e.Token(), e.Generation())
	}
	again.Detach()
	three := newHost(t)
	_, err = three.double(t, caller, name, 2).Resume(within(t), e.Token()+1<<16)
	isAll(t, err, barrier.ErrLost)
	last := must[*barrier.Entry](t)(three.double(t, caller, name, 2).Resume(within(t), e.Token()))
	l := leaving(within(t), last)
	tickets(t, name, 1)
	noError(t, other.Leave(within(t)))
	l.get(t)
	_, err = three.double(t, caller, name, 2).Resume(within(t), e.Token())
	isAll(t, err, barrier.ErrLost)
	onlyStates(t, name)
}

// TestOneSessionIsOneParty lets several calls of a session wait, at two hosts: they
// are one member, and the place stays as long as one of them waits.
func TestOneSessionIsOneParty(t *testing.T) {
	name := etcd.Prefix(t)
	one, two, caller := newHost(t), newHost(t), session(t)
	ctx, cancel := context.WithCancel(within(t))
	first := entering(ctx, one.double(t, caller, name, 2))
	tickets(t, name, 1)
	second, third := entering(within(t), one.double(t, caller, name, 2)), entering(within(t), two.double(t, caller, name, 2))
	cancel()
	_, err := first.result(t)
	isAll(t, err, context.Canceled)
	tickets(t, name, 1)
	second.pending(t)
	other := must[*barrier.Entry](t)(barrier.NewDouble(session(t), name, 2).Enter(within(t)))
	a, b := second.get(t), third.get(t)
	if a.Token() != b.Token() || a.Token() == other.Token() {
		t.Errorf("tokens %d, %d and %d", a.Token(), b.Token(), other.Token())
	}
	l := leaving(within(t), other)
	noError(t, a.Leave(within(t)))
	l.get(t)
	isAll(t, over(t, b), barrier.ErrLost)
	onlyStates(t, name)
}

// TestPlaceGivenUpAtAnotherHost cancels one of two calls of a session, each the only
// one of its host: the other comes again by itself.
func TestPlaceGivenUpAtAnotherHost(t *testing.T) {
	name := etcd.Prefix(t)
	one, two, caller := newHost(t), newHost(t), session(t)
	ctx, cancel := context.WithCancel(within(t))
	first := entering(ctx, one.double(t, caller, name, 2))
	tickets(t, name, 1)
	second := entering(within(t), two.double(t, caller, name, 2))
	cancel()
	_, err := first.result(t)
	isAll(t, err, context.Canceled)
	tickets(t, name, 1)
	other := entering(within(t), barrier.NewDouble(session(t), name, 2))
	l := leaving(within(t), other.get(t))
	noError(t, second.get(t).Leave(within(t)))
	l.get(t)
	onlyStates(t, name)
}

// TestRepeatedAwaitIsOneArrival repeats a call whose answer was lost, at another
// host: the same operation is the same generation, another one is the next.
func TestRepeatedAwaitIsOneArrival(t *testing.T) {
	name := etcd.Prefix(t)
	one, two, caller, other := newHost(t), newHost(t), session(t), session(t)
	cyclic := func(h *host, op string) *barrier.Cyclic {
		return barrier.NewCyclic(h.of(t, caller), name, 2, barrier.WithOnePerSession(), barrier.WithOperation(op))
	}
	for want := int64(1); want < 4; want++ {
		op := string(rune('a' + want))
		c := awaiting(within(t), cyclic(one, op))
		if g := must[int64](t)(barrier.NewCyclic(other, name, 2).Await(within(t))); g != want {
			t.Errorf("generation %d, want %d", g, want)
		}
		for _, h := range []*host{two, one, two} {
			if g := must[int64](t)(cyclic(h, op).Await(within(t))); g != want {
				t.Errorf("asked again: generation %d, want %d", g, want)
			}
		}
		if g := c.get(t); g != want {
			t.Errorf("generation %d, want %d", g, want)
		}
	}
	if left := keysOf(t, name, "cyclic/in/"); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestHoldAtOneHostReleaseAtAnother(t *testing.T) {
	name := etcd.Prefix(t)
	one, two, caller := newHost(t), newHost(t), session(t)
	hold := func(h *host) *barrier.Barrier { return barrier.New(h.of(t, caller), name, barrier.WithOnePerSession()) }
	h := held(t, hold(one))
	again := held(t, hold(two))
	if again.Token() != h.Token() {
		t.Errorf("token %d, want %d", again.Token(), h.Token())
	}
	again.Detach()
	c := waitingFor(within(t), barrier.New(session(t), name))
	_, err := hold(two).Resume(within(t), h.Token()+1<<16)
	isAll(t, err, barrier.ErrLost)
	resumed := must[*barrier.Hold](t)(hold(two).Resume(within(t), h.Token()))
	noError(t, resumed.Release())
	c.get(t)
	isAll(t, over(t, h), barrier.ErrLost)
	next := held(t, hold(one))
	if next.Token() <= h.Token() {
		t.Errorf("token %d after %d", next.Token(), h.Token())
	}
	noError(t, next.Release())
	if left := keysOf(t, name, ""); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// TestLateRequestOfADeadHost delivers what a host that is gone sent, after the
// caller has left through another one.
func TestLateRequestOfADeadHost(t *testing.T) {
	name := etcd.Prefix(t)
	f, g := coretest.NewFaults(), coretest.NewFaults()
	holds, enters, two, caller := newHost(t, f.DialOptions()...), newHost(t, g.DialOptions()...), newHost(t), session(t)
	lateHold, lateJoin := f.Late(holdRequest, coretest.Silently()), g.Late(joinRequest, coretest.Silently())
	ctx, cancel := context.WithCancel(within(t))
	h := inBackground(func() (*barrier.Hold, error) {
		return barrier.New(holds.of(t, caller), name, barrier.WithOnePerSession()).Hold(ctx)
	})
	e := entering(ctx, enters.double(t, caller, name, 1))
	noError(t, lateHold.Wait(within(t)))
	noError(t, lateJoin.Wait(within(t)))
	noError(t, held(t, barrier.New(two.of(t, caller), name, barrier.WithOnePerSession())).Release())
	noError(t, must[*barrier.Entry](t)(two.double(t, caller, name, 1).Enter(within(t))).Leave(within(t)))
	for _, late := range []*coretest.Late{lateHold, lateJoin} {
		if _, err := late.Deliver(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	if left := append(keysOf(t, name, "hold/"), keysOf(t, name, "double/in/")...); len(left) > 0 {
		t.Errorf("a late request put %q", left)
	}
	cancel()
	_, _ = h.result(t)
	_, _ = e.result(t)
}

// TestAThousandWaitersShareTheirReads checks what a wait costs etcd: how many wait
// in a session makes no difference.
func TestAThousandWaitersShareTheirReads(t *testing.T) {
	name := etcd.Prefix(t)
	var reads atomic.Int64
	f := coretest.NewFaults()
	counts := coretest.Reads(prefixOf(name))
	f.LoseReply(func(method string, req any) bool { // never: it only counts
		if counts(method, req) {
			reads.Add(1)
		}
		return false
	})
	s := must[*core.Session](t)(core.NewSession(within(t), etcd.Client(t, f.DialOptions()...)))
	t.Cleanup(func() { _ = s.Close() })
	first := f.Hold(counts, coretest.Times(2)) // until all are there
	h := held(t, barrier.New(session(t), name))
	b, l := barrier.New(s, name), barrier.NewLatch(s, name, 1)
	var begun, wg sync.WaitGroup
	begun.Add(2000)
	for range 1000 {
		for _, wait := range []func(context.Context) error{b.Wait, l.Await} {
			wg.Go(func() {
				begun.Done()
				noErrorNow(t, wait(within(t)))
			})
		}
	}
	begun.Wait()
	first.Release()
	eventually(t, "the latch", func() bool { return len(keysOf(t, name, "latch/at")) == 1 })
	noError(t, h.Release())
	noError(t, barrier.NewLatch(session(t), name, 1).CountDown(within(t), "a"))
	wg.Wait()
	t.Logf("%d reads for 2000 waits", reads.Load())
	if n := reads.Load(); n > 500 {
		t.Errorf("%d reads for 2000 waits", n)
	}
}
