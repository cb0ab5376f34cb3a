package barrier_test

import (
	"context"
	"testing"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// Every request of the protocol is lost on its way there, on its way back, or
// delayed until all is over.

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
	if a.late != nil && a.Fired() > 0 {
		if _, err := a.late.Deliver(within(tb)); err != nil {
			tb.Logf("the late request is refused: %v", err) // its lease may be gone by now
		}
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

// The requests, by the keys that they write and delete.
var (
	joinRequest    = coretest.Puts("/in/")
	readyRequest   = coretest.All(coretest.Puts("/at"), coretest.Deletes("/left"))
	beginRequest   = coretest.All(coretest.Puts("/at"), coretest.Not(coretest.Deletes("/")))
	leaveRequest   = coretest.All(coretest.Deletes("double/in/"), coretest.Not(coretest.Puts("/left")))
	cancelRequest  = coretest.Puts("/left")
	holdRequest    = coretest.Puts("/hold/")
	releaseRequest = coretest.Deletes("/hold/")
	countRequest   = coretest.Puts("/done/")
	openRequest    = coretest.All(coretest.Puts("/at"), coretest.Deletes("/done/"))
)

// forFates runs f for each of the requests and every fate.
func forFates(t *testing.T, requests map[string]coretest.Match, f func(t *testing.T, request coretest.Match, with fate, name string)) {
	for what, request := range requests {
		for _, with := range fates {
			t.Run(what+" "+with.name, func(t *testing.T) {
				t.Parallel()
				f(t, request, with, etcd.Prefix(t))
			})
		}
	}
}

// TestLostRequestsOfADouble loses requests of the one who comes first, and of the
// one who comes last.
func TestLostRequestsOfADouble(t *testing.T) {
	forFates(t, map[string]coretest.Match{"begin": beginRequest, "join": joinRequest, "ready": readyRequest, "leave": leaveRequest},
		func(t *testing.T, request coretest.Match, with fate, name string) {
			s, f := faulty(t)
			a := with.arm(f, request)
			for _, breaks := range [][]barrier.Option{nil, {barrier.WithBreakOnLoss()}} {
				for _, order := range [][2]*core.Session{{s, session(t)}, {session(t), s}} {
					first := entering(within(t), barrier.NewDouble(order[0], name, 2, breaks...))
					tickets(t, name, 1)
					second := must[*barrier.Entry](t)(barrier.NewDouble(order[1], name, 2, breaks...).Enter(within(t)))
					both := []*barrier.Entry{first.get(t), second}
					if both[0].Generation() != both[1].Generation() {
						t.Fatal("they met in two generations")
					}
					l := leaving(within(t), both[0])
					tickets(t, name, 1)
					l.pending(t)
					noError(t, both[1].Leave(within(t)))
					l.get(t)
					tickets(t, name, 0)
				}
			}
			if a.Fired() == 0 {
				t.Error("no request met its fate")
			}
			a.arrive(t)
			onlyStates(t, name)
		})
}

// TestLostRequestsOfACyclic checks that whose request was lost is in one
// generation, and nobody twice.
func TestLostRequestsOfACyclic(t *testing.T) {
	forFates(t, map[string]coretest.Match{"begin": beginRequest, "join": joinRequest, "ready": readyRequest},
		func(t *testing.T, request coretest.Match, with fate, name string) {
			s, f := faulty(t)
			a := with.arm(f, request)
			other := session(t)
			for want := int64(1); want < 6; want++ {
				x, y := awaiting(within(t), barrier.NewCyclic(s, name, 2)), awaiting(within(t), barrier.NewCyclic(other, name, 2))
				if g, h := x.get(t), y.get(t); g != want || h != want {
					t.Fatalf("generations %d and %d, want %d", g, h, want)
				}
			}
			a.arrive(t)
			onlyStates(t, name)
		})
}

// TestCountedWithoutKnowing loses the reply of a Join, and holds its repetition
// back until the generation is complete and its tickets are gone: the member finds
// itself on the list, and does not come to the next generation too.
func TestCountedWithoutKnowing(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	other := session(t)
	x, y := awaiting(within(t), barrier.NewCyclic(s, name, 2)), awaiting(within(t), barrier.NewCyclic(other, name, 2))
	x.get(t)
	y.get(t)
	f.LoseReply(joinRequest)
	again := f.Hold(joinRequest)
	x = awaiting(within(t), barrier.NewCyclic(s, name, 2))
	noError(t, again.Wait(within(t)))
	if g := must[int64](t)(barrier.NewCyclic(other, name, 2).Await(within(t))); g != 2 {
		t.Errorf("generation %d, want 2", g)
	}
	again.Release()
	if g := x.get(t); g != 2 {
		t.Errorf("generation %d, want 2", g)
	}
	onlyStates(t, name)
}

// TestLostCancel loses what takes a ticket back.
func TestLostCancel(t *testing.T) {
	forFates(t, map[string]coretest.Match{"cancel": cancelRequest}, func(t *testing.T, request coretest.Match, with fate, name string) {
		s, f := faulty(t)
		ctx, cancel := context.WithCancel(within(t))
		c := entering(ctx, barrier.NewDouble(s, name, 2))
		tickets(t, name, 1)
		a := with.arm(f, request)
		cancel()
		_, err := c.result(t)
		isAll(t, err, context.Canceled)
		tickets(t, name, 0)
		// The same session comes again: a late cancel must not concern it.
		again := entering(within(t), barrier.NewDouble(s, name, 2))
		tickets(t, name, 1)
		a.arrive(t)
		tickets(t, name, 1)
		e := must[*barrier.Entry](t)(barrier.NewDouble(session(t), name, 2).Enter(within(t)))
		l := leaving(within(t), e)
		noError(t, again.get(t).Leave(within(t)))
		l.get(t)
		onlyStates(t, name)
	})
}

// TestCancelBeforeTheTicketArrives gives up while a Join is on its way: when it
// arrives it puts nothing.
func TestCancelBeforeTheTicketArrives(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	late := f.Late(joinRequest, coretest.Silently())
	ctx, cancel := context.WithCancel(within(t))
	c := entering(ctx, barrier.NewDouble(s, name, 2))
	noError(t, late.Wait(within(t)))
	cancel()
	_, err := c.result(t)
	isAll(t, err, context.Canceled)
	eventually(t, "the void record", func() bool {
		for _, kv := range etcd.Dump(t, prefixOf(name)+"double/void/") {
			return kv.Lease == int64(s.Lease())
		}
		return false
	})
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	if left := keysOf(t, name, "double/in/"); len(left) > 0 {
		t.Errorf("a ticket of nobody: %q", left)
	}
}

// TestTimeoutAfterReady ends a wait when the generation is complete and its member
// does not know yet: it has entered.
func TestTimeoutAfterReady(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	first := entering(within(t), barrier.NewDouble(session(t), name, 2))
	tickets(t, name, 1)
	f.LoseReply(readyRequest) // the mark stands, and its writer asks again
	again := f.Hold(readyRequest)
	ctx, cancel := context.WithCancel(within(t))
	second := entering(ctx, barrier.NewDouble(s, name, 2))
	noError(t, again.Wait(within(t)))
	cancel()
	e, err := second.result(t)
	again.Release()
	noError(t, err)
	l := leaving(within(t), first.get(t))
	tickets(t, name, 1)
	l.pending(t)
	noError(t, e.Leave(within(t)))
	l.get(t)
	onlyStates(t, name)
}

func TestLostHoldAndRelease(t *testing.T) {
	forFates(t, map[string]coretest.Match{"hold": holdRequest, "release": releaseRequest},
		func(t *testing.T, request coretest.Match, with fate, name string) {
			s, f := faulty(t)
			b := barrier.New(s, name, barrier.WithBreakOnLoss())
			a := with.arm(f, request)
			h := held(t, b)
			c := waitingFor(within(t), barrier.New(session(t), name))
			c.pending(t)
			noError(t, h.Release())
			c.get(t)
			if a.Fired() == 0 {
				t.Error("no request met its fate")
			}
			a.arrive(t)
			noError(t, b.Wait(within(t)))
			if left := keysOf(t, name, ""); len(left) > 0 {
				t.Errorf("left over: %q", left)
			}
		})
}

// TestHoldGivenUp ends a Hold whose request is on its way: the barrier is not
// closed for nobody.
func TestHoldGivenUp(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	late := f.Late(holdRequest, coretest.Silently())
	ctx, cancel := context.WithCancel(within(t))
	c := inBackground(func() (*barrier.Hold, error) { return barrier.New(s, name).Hold(ctx) })
	noError(t, late.Wait(within(t)))
	cancel()
	_, err := c.result(t)
	isAll(t, err, context.Canceled)
	eventually(t, "the void record", func() bool { return len(etcd.Dump(t, prefixOf(name)+"void/")) == 1 })
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	noError(t, barrier.New(session(t), name).Wait(within(t)))
}

func TestLostCountDown(t *testing.T) {
	forFates(t, map[string]coretest.Match{"count": countRequest, "open": openRequest},
		func(t *testing.T, request coretest.Match, with fate, name string) {
			s, f := faulty(t)
			l := barrier.NewLatch(s, name, 3)
			a := with.arm(f, request)
			for i, op := range []string{"a", "b", "c"} {
				noError(t, l.CountDown(within(t), op))
				if n := count(t, l); n != 2-i {
					t.Errorf("%d left, want %d", n, 2-i)
				}
			}
			if a.Fired() == 0 {
				t.Error("no request met its fate")
			}
			noError(t, l.Await(within(t)))
			noError(t, l.Reset(within(t)))
			a.arrive(t)
			if n := count(t, l); n != 3 {
				t.Errorf("%d left after a late request, want 3", n)
			}
		})
}

// TestLatchOpensThoughItsLastCounterDied counts the last one and never opens the
// latch: who waits does it.
func TestLatchOpensThoughItsLastCounterDied(t *testing.T) {
	name := etcd.Prefix(t)
	waiting := opening(within(t), barrier.NewLatch(session(t), name, 1))
	s, f := faulty(t)
	never := f.Hold(openRequest)
	defer never.Release()
	ctx, cancel := context.WithCancel(within(t))
	c := inBackground(func() (none, error) { return none{}, barrier.NewLatch(s, name, 1).CountDown(ctx, "a") })
	noError(t, never.Wait(within(t)))
	cancel()
	_, err := c.result(t)
	isAll(t, err, context.Canceled)
	waiting.get(t)
	onlyStates(t, name)
}
