package barrier_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

func TestDoubleEntersAndLeavesTogether(t *testing.T) {
	name := etcd.Prefix(t)
	const n, generations = 4, 3
	doubles := make([]*barrier.Double, n)
	for i := range doubles {
		doubles[i] = barrier.NewDouble(session(t), name, n)
	}
	var largest core.Token
	for g := int64(1); g <= generations; g++ {
		var calls []*call[*barrier.Entry]
		for i, d := range doubles {
			if i == n-1 {
				tickets(t, name, n-1)
				for _, c := range calls {
					c.pending(t)
				}
			}
			calls = append(calls, entering(within(t), d))
		}
		entries := make(map[core.Token]*barrier.Entry)
		smallest := largest
		for _, c := range calls {
			e := c.get(t)
			if e.Generation() != g {
				t.Errorf("generation %d, want %d", e.Generation(), g)
			}
			if e.Token() <= smallest {
				t.Errorf("token %d in generation %d, after %d", e.Token(), g, smallest)
			}
			if token, ok := core.TokenFrom(e.Context()); !ok || token != e.Token() {
				t.Errorf("the context has the token %d, %t", token, ok)
			}
			largest = max(largest, e.Token())
			entries[e.Token()] = e
		}
		if len(entries) != n {
			t.Fatalf("%d tokens for %d members", len(entries), n)
		}
		var gone []*call[none]
		for _, e := range entries {
			if len(gone) == n-1 {
				tickets(t, name, 1)
				for _, c := range gone {
					c.pending(t)
				}
			}
			gone = append(gone, leaving(within(t), e))
		}
		for _, c := range gone {
			c.get(t)
		}
		for _, e := range entries {
			isAll(t, context.Cause(e.Context()), core.ErrReleased)
			noError(t, e.Leave(within(t)))
		}
	}
	onlyStates(t, name)
}

func TestDoubleOfOne(t *testing.T) {
	name := etcd.Prefix(t)
	d := barrier.NewDouble(session(t), name, 1)
	for g := int64(1); g < 4; g++ {
		e := must[*barrier.Entry](t)(d.Enter(within(t)))
		if e.Generation() != g {
			t.Errorf("generation %d, want %d", e.Generation(), g)
		}
		noError(t, e.Leave(within(t)))
	}
	onlyStates(t, name)
}

func TestDoubleIsFull(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	d := barrier.NewDouble(s, name, 2)
	a, b := entering(within(t), d), entering(within(t), d)
	first, second := a.get(t), b.get(t)
	before := etcd.Revision(t)
	for range 3 {
		_, err := barrier.NewDouble(session(t), name, 2).Enter(within(t))
		isAll(t, err, barrier.ErrFull)
	}
	if after := etcd.Revision(t); after != before {
		t.Errorf("revision went from %d to %d", before, after)
	}
	_, err := barrier.NewDouble(s, name, 3).Enter(within(t))
	isAll(t, err, barrier.ErrPartiesMismatch)
	l := leaving(within(t), first)
	tickets(t, name, 1)
	_, err = d.Enter(within(t)) // a straggler is inside
	isAll(t, err, barrier.ErrFull)
	l.pending(t)
	noError(t, second.Leave(within(t)))
	l.get(t)
	c := entering(within(t), d)
	e := must[*barrier.Entry](t)(d.Enter(within(t)))
	if e.Generation() != 2 || c.get(t).Generation() != 2 {
		t.Error("not the next generation")
	}
}

// TestMoreThanNComeAtOnce lets three times as many come as fit: of each generation
// exactly n enter, the others get ErrFull, and nothing is left of them.
func TestMoreThanNComeAtOnce(t *testing.T) {
	name := etcd.Prefix(t)
	const n = 5
	var mu sync.Mutex
	entered, full := 0, 0
	var wg sync.WaitGroup
	var entries []*barrier.Entry
	for range 3 {
		s := session(t)
		for range n {
			wg.Go(func() {
				e, err := barrier.NewDouble(s, name, n).Enter(within(t))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil:
					entered++
					entries = append(entries, e)
				case errors.Is(err, barrier.ErrFull):
					full++
				default:
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if entered != n || full != 2*n {
		t.Fatalf("%d entered, %d were told that it is full", entered, full)
	}
	tickets(t, name, n)
	for _, e := range entries {
		wg.Go(func() { noErrorNow(t, e.Leave(within(t))) })
	}
	wg.Wait()
	onlyStates(t, name)
}

// noErrorNow is for goroutines, which may not end a test.
func noErrorNow(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Error(err)
	}
}

func TestDoublePartiesMismatch(t *testing.T) {
	name := etcd.Prefix(t)
	ctx, cancel := context.WithCancel(within(t))
	c := entering(ctx, barrier.NewDouble(session(t), name, 3))
	tickets(t, name, 1)
	before := etcd.Revision(t)
	_, err := barrier.NewDouble(session(t), name, 2).Enter(within(t))
	isAll(t, err, barrier.ErrPartiesMismatch)
	for _, number := range []string{"2", "3"} {
		if err != nil && !contains(err, number) {
			t.Errorf("%q does not name %s", err, number)
		}
	}
	if after := etcd.Revision(t); after != before {
		t.Errorf("revision went from %d to %d", before, after)
	}
	cancel()
	_, err = c.result(t)
	isAll(t, err, context.Canceled)
	isNot(t, err, core.ErrUnknownOutcome)
	// Nobody is there: other parties are welcome.
	d := barrier.NewDouble(session(t), name, 1)
	noError(t, must[*barrier.Entry](t)(d.Enter(within(t))).Leave(within(t)))
	onlyStates(t, name)
}

func TestDoubleTimeout(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	d := barrier.NewDouble(s, name, 2)
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	_, err := d.Enter(ctx)
	isAll(t, err, context.DeadlineExceeded)
	isNot(t, err, core.ErrUnknownOutcome)
	if left := keysOf(t, name, "double/in/"); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
	// Who gave up does not count.
	c := entering(within(t), d)
	tickets(t, name, 1)
	c.pending(t)
	e := must[*barrier.Entry](t)(barrier.NewDouble(session(t), name, 2).Enter(within(t)))
	both := []*call[none]{leaving(within(t), e), leaving(within(t), c.get(t))}
	for _, l := range both {
		l.get(t)
	}
	onlyStates(t, name)
}

func TestLeaveTimeout(t *testing.T) {
	name := etcd.Prefix(t)
	d := barrier.NewDouble(session(t), name, 2)
	c := entering(within(t), d)
	a := must[*barrier.Entry](t)(d.Enter(within(t)))
	b := c.get(t)
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	isAll(t, a.Leave(ctx), context.DeadlineExceeded)
	tickets(t, name, 1)
	isAll(t, context.Cause(a.Context()), core.ErrReleased)
	again := leaving(within(t), a)
	noError(t, b.Leave(within(t)))
	again.get(t)
	onlyStates(t, name)
}

// TestMemberDiesBeforeReady checks both policies: the others wait for another
// member, or are told who was lost.
func TestMemberDiesBeforeReady(t *testing.T) {
	name := etcd.Prefix(t)
	dying := session(t)
	dead := entering(within(t), barrier.NewDouble(dying, name, 3))
	tickets(t, name, 1)
	a := entering(within(t), barrier.NewDouble(session(t), name, 3))
	tickets(t, name, 2)
	expire(t, dying)
	tickets(t, name, 1)
	_, err := dead.result(t)
	isAll(t, err, core.ErrSessionExpired)
	b := entering(within(t), barrier.NewDouble(session(t), name, 3))
	tickets(t, name, 2)
	a.pending(t)
	c := entering(within(t), barrier.NewDouble(session(t), name, 3))
	for _, e := range []*call[*barrier.Entry]{a, b, c} {
		if e.get(t).Generation() != 1 {
			t.Error("not the first generation")
		}
	}
}

func TestLossBreaksADouble(t *testing.T) {
	for position, who := range []string{"the first", "one in the middle", "the last"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			name := etcd.Prefix(t)
			dying := session(t, core.WithOwner("dying"))
			var living []*call[*barrier.Entry]
			var dead *call[*barrier.Entry]
			for i := range 3 {
				if i == position {
					dead = entering(within(t), barrier.NewDouble(dying, name, 4, barrier.WithBreakOnLoss()))
				} else {
					// The policy is that of the first who came.
					opts := []barrier.Option{barrier.WithBreakOnLoss()}[:min(1, 2-i)]
					living = append(living, entering(within(t), barrier.NewDouble(session(t), name, 4, opts...)))
				}
				tickets(t, name, i+1)
			}
			expire(t, dying)
			if _, err := dead.result(t); !errors.Is(err, core.ErrSessionExpired) { // or it heard of its own loss first
				isLost(t, err, "dying")
			}
			for _, c := range living {
				_, err := c.result(t)
				isLost(t, err, "dying")
			}
			onlyStates(t, name)
			// The next generation works.
			e := must[*barrier.Entry](t)(barrier.NewDouble(session(t), name, 1).Enter(within(t)))
			if e.Generation() != 2 {
				t.Errorf("generation %d, want 2", e.Generation())
			}
		})
	}
}

func TestCancelDoesNotBreakADouble(t *testing.T) {
	name := etcd.Prefix(t)
	ctx, cancel := context.WithCancel(within(t))
	gone := entering(ctx, barrier.NewDouble(session(t), name, 3, barrier.WithBreakOnLoss()))
	tickets(t, name, 1)
	a := entering(within(t), barrier.NewDouble(session(t), name, 3, barrier.WithBreakOnLoss()))
	tickets(t, name, 2)
	cancel()
	_, err := gone.result(t)
	isAll(t, err, context.Canceled)
	s := session(t)
	b := entering(within(t), barrier.NewDouble(s, name, 3))
	c := entering(within(t), barrier.NewDouble(s, name, 3))
	for _, e := range []*call[*barrier.Entry]{a, b, c} {
		e.get(t)
	}
	if left := keysOf(t, name, "double/party/"); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// TestMemberDiesInside checks that who dies after the ready mark counts as having
// left, also as the last one.
func TestMemberDiesInside(t *testing.T) {
	name := etcd.Prefix(t)
	dying := session(t)
	c := entering(within(t), barrier.NewDouble(dying, name, 2))
	s := session(t)
	e := must[*barrier.Entry](t)(barrier.NewDouble(s, name, 2).Enter(within(t)))
	lost := c.get(t)
	l := leaving(within(t), e)
	tickets(t, name, 1)
	l.pending(t)
	expire(t, dying)
	l.get(t)
	isAll(t, over(t, lost), barrier.ErrLost, core.ErrSessionExpired)
	isAll(t, lost.Leave(within(t)), barrier.ErrLost, core.ErrSessionExpired)
	onlyStates(t, name)
	next := must[*barrier.Entry](t)(barrier.NewDouble(s, name, 1).Enter(within(t)))
	if next.Generation() != 2 {
		t.Errorf("generation %d, want 2", next.Generation())
	}
}

// TestAllDieInside checks that whoever comes next finds a generation whose members
// are all gone, and begins another one.
func TestAllDieInside(t *testing.T) {
	name := etcd.Prefix(t)
	dying := session(t)
	must[*barrier.Entry](t)(barrier.NewDouble(dying, name, 1).Enter(within(t)))
	expire(t, dying)
	e := must[*barrier.Entry](t)(barrier.NewDouble(session(t), name, 1).Enter(within(t)))
	if e.Generation() != 2 {
		t.Errorf("generation %d, want 2", e.Generation())
	}
}
