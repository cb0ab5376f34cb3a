package barrier_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

func opening(ctx context.Context, l *barrier.Latch) *call[none] {
	return inBackground(func() (none, error) { return none{}, l.Await(ctx) })
}

func count(tb testing.TB, l *barrier.Latch) int {
	tb.Helper()
	return must[int](tb)(l.Count(within(tb)))
}

// A count that was mistyped is noticed, also when the latch is at zero.
func TestLatchOfAnotherCount(t *testing.T) {
	s, name := session(t), etcd.Prefix(t)
	l, other := barrier.NewLatch(s, name, 1), barrier.NewLatch(s, name, 2)
	noError(t, l.CountDown(within(t), "a"))
	if err := other.CountDown(within(t), "b"); !errors.Is(err, barrier.ErrPartiesMismatch) {
		t.Errorf("CountDown: %v", err)
	}
	if err := other.Await(within(t)); !errors.Is(err, barrier.ErrPartiesMismatch) {
		t.Errorf("Await: %v", err)
	}
	noError(t, other.Reset(within(t))) // which gives it another count
	noError(t, other.CountDown(within(t), "b"))
}

func TestLatchCountsEachOperationOnce(t *testing.T) {
	name := etcd.Prefix(t)
	l := barrier.NewLatch(session(t), name, 3)
	if n := count(t, l); n != 3 {
		t.Errorf("%d left at the beginning", n)
	}
	waiting := opening(within(t), barrier.NewLatch(session(t), name, 3))
	for i, op := range []string{"a", "a", "b/ü", "b/ü", "a"} {
		noError(t, l.CountDown(within(t), op))
		if n, want := count(t, l), 2-i/2; i < 4 && n != want {
			t.Errorf("%d left after %d calls, want %d", n, i+1, want)
		}
	}
	waiting.pending(t)
	noError(t, barrier.NewLatch(session(t), name, 3).CountDown(within(t), "c"))
	waiting.get(t)
	for _, op := range []string{"a", "d"} { // never below zero
		noError(t, l.CountDown(within(t), op))
		if n := count(t, l); n != 0 {
			t.Errorf("%d left at the end", n)
		}
	}
	noError(t, l.Await(within(t)))
	onlyStates(t, name)
}

// TestLatchSurvivesItsCounters checks that what was counted stands when the session
// that counted it is gone.
func TestLatchSurvivesItsCounters(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	noError(t, barrier.NewLatch(s, name, 2).CountDown(within(t), "a"))
	expire(t, s)
	l := barrier.NewLatch(session(t), name, 2)
	if n := count(t, l); n != 1 {
		t.Errorf("%d left, want 1", n)
	}
	noError(t, l.CountDown(within(t), "b"))
	noError(t, l.Await(within(t)))
}

func TestManyCountAtOnce(t *testing.T) {
	name := etcd.Prefix(t)
	const sessions, each = 4, 25
	var wg sync.WaitGroup
	waiting := opening(within(t), barrier.NewLatch(session(t), name, sessions*each))
	for i := range sessions {
		l := barrier.NewLatch(session(t), name, sessions*each)
		for k := range each {
			for range 2 { // each operation twice
				wg.Go(func() { noErrorNow(t, l.CountDown(within(t), fmt.Sprintf("%d-%d", i, k))) })
			}
		}
	}
	wg.Wait()
	waiting.get(t)
	onlyStates(t, name)
}

func TestLatchReset(t *testing.T) {
	name := etcd.Prefix(t)
	l := barrier.NewLatch(session(t), name, 2)
	noError(t, l.CountDown(within(t), "a"))
	before := etcd.Revision(t)
	isAll(t, l.Reset(within(t)), barrier.ErrCounting)
	if after := etcd.Revision(t); after != before {
		t.Errorf("revision went from %d to %d", before, after)
	}
	waiting := opening(within(t), l)
	noError(t, l.CountDown(within(t), "b"))
	waiting.get(t)
	other := barrier.NewLatch(session(t), name, 1)
	noError(t, other.Reset(within(t)))
	if n := count(t, l); n != 1 {
		t.Errorf("%d left after the reset", n)
	}
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	isAll(t, other.Await(ctx), context.DeadlineExceeded)
	noError(t, other.CountDown(within(t), "a")) // of another generation
	noError(t, other.Await(within(t)))
	onlyStates(t, name)
}

func TestLatchMismatch(t *testing.T) {
	name := etcd.Prefix(t)
	noError(t, barrier.NewLatch(session(t), name, 2).CountDown(within(t), "a"))
	l := barrier.NewLatch(session(t), name, 3)
	for what, err := range map[string]error{"CountDown": l.CountDown(within(t), "b"), "Await": l.Await(within(t))} {
		isAll(t, err, barrier.ErrPartiesMismatch)
		if err != nil && (!contains(err, "2") || !contains(err, "3")) {
			t.Errorf("%s: %q does not name both", what, err)
		}
	}
}

func TestLatchEndsWithTheSession(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	c := opening(within(t), barrier.NewLatch(s, name, 2))
	eventually(t, "the latch", func() bool { return len(keysOf(t, name, "latch/at")) == 1 })
	noError(t, s.Close())
	_, err := c.result(t)
	isAll(t, err, core.ErrSessionClosed)
	isAll(t, barrier.NewLatch(s, name, 2).CountDown(within(t), "a"), core.ErrSessionClosed)
}
