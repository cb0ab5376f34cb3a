package main

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"

	ratelimitv1 "example.com/conclave-ratelimit/proto/example/ratelimit/v1"
)

// Whoever of a fleet takes them: all tokens of a window, and not one more.
func TestAFleetTakesTheQuotaOnce(t *testing.T) {
	at := newClock()
	fleet := []*limiter{newLimiter(t, etcd.Client(t), at), newLimiter(t, etcd.Client(t), at), newLimiter(t, etcd.Client(t), at)}
	id := newQuota(t, fleet[0], 1000, time.Minute)
	for window := range 2 {
		var took atomic.Int64
		var all sync.WaitGroup
		for i := range 24 {
			all.Go(func() { took.Add(drain(t, fleet[i%len(fleet)], id)) })
		}
		all.Wait()
		if took.Load() != 1000 {
			t.Errorf("window %d: %d tokens of 1000", window, took.Load())
		}
		at.pass(time.Minute)
	}
}

// What most calls cost: nothing.
func TestBlocksSpareTransactions(t *testing.T) {
	l := newLimiter(t, etcd.Client(t), newClock())
	id := newQuota(t, l, 100_000, time.Minute)
	before := etcd.Revision(t)
	for range 50_000 {
		if o, err := l.take(t.Context(), id, 1); err != nil || !o.allowed {
			t.Fatal(o, err)
		}
	}
	if n := etcd.Revision(t) - before; n > 12 {
		t.Errorf("50,000 tokens took %d transactions", n)
	}
	drain(t, l, id)
	before = etcd.Revision(t)
	for range 1000 {
		if o, err := l.take(t.Context(), id, 1); err != nil || o.allowed || o.retry <= 0 {
			t.Fatal(o, err)
		}
	}
	if n := etcd.Revision(t) - before; n != 0 {
		t.Errorf("refusals took %d transactions", n)
	}
}

// Tokens of several at a time: all or none, across blocks too.
func TestAllOrNone(t *testing.T) {
	at := newClock()
	a, b := newLimiter(t, etcd.Client(t), at), newLimiter(t, etcd.Client(t), at)
	id := newQuota(t, a, 10, time.Minute)
	for _, step := range []struct {
		host *limiter
		n    int64
		want bool
	}{{a, 6, true}, {b, 5, false}, {b, 4, true}, {a, 1, false}} {
		o, err := step.host.take(within(t), id, step.n)
		if err != nil || o.allowed != step.want {
			t.Errorf("%d: %+v, %v", step.n, o, err)
		}
		if !step.want && o.retry != 30*time.Second {
			t.Errorf("%d: told to come back after %s", step.n, o.retry)
		}
	}
	if _, err := a.take(within(t), id, 11); recipe.Reason(err) != "invalid_tokens" {
		t.Errorf("more than the quota: %v", err)
	}
}

// What a host holds comes back when it stops, and with the next window when it
// is killed.
func TestBlocksComeBack(t *testing.T) {
	at := newClock()
	stops, dies, stays := newLimiter(t, etcd.Client(t), at), newLimiter(t, etcd.Client(t), at), newLimiter(t, etcd.Client(t), at)
	id := newQuota(t, stays, 1000, time.Minute)
	for _, l := range []*limiter{stops, dies} {
		if o, err := l.take(within(t), id, 1); err != nil || !o.allowed {
			t.Fatal(o, err)
		}
	}
	if err := stops.sweep(within(t), 0); err != nil {
		t.Fatal(err)
	}
	lost := dies.stocks[id].left
	if lost == 0 {
		t.Fatal("the host that dies holds nothing")
	}
	if n := drain(t, stays, id); n != 1000-2-lost {
		t.Errorf("%d tokens for the others, want all but 2 and the %d of the dead host", n, lost)
	}
	at.pass(time.Minute)
	if n := drain(t, stays, id); n != 1000 {
		t.Errorf("%d tokens in the next window", n)
	}
	if n := drain(t, dies, id); n != 0 {
		t.Errorf("%d tokens of a window that has ended", n)
	}
}

// A claim whose reply is lost is found again, or counts as used; it is never
// handed out twice.
func TestLostReplies(t *testing.T) {
	faults, at := coretest.NewFaults(), newClock()
	a, b := newLimiter(t, etcd.Client(t, faults.DialOptions()...), at), newLimiter(t, etcd.Client(t), at)
	for name, lose := range map[string]func(m coretest.Match){
		"reply lost":   func(m coretest.Match) { faults.LoseReply(m) },
		"request lost": func(m coretest.Match) { faults.LoseRequest(m) },
	} {
		t.Run(name, func(t *testing.T) {
			id := newQuota(t, b, 100, time.Minute)
			lose(coretest.Puts(id.name))
			o, err := a.take(within(t), id, 1)
			if err != nil || !o.allowed {
				t.Fatal(o, err)
			}
			if n := drain(t, a, id) + drain(t, b, id); n != 99 {
				t.Errorf("%d tokens more, want 99", n)
			}
			faults.Clear()
		})
	}
}

// A claim that arrives when its host has long made another.
func TestLateClaim(t *testing.T) {
	faults, at := coretest.NewFaults(), newClock()
	a, b := newLimiter(t, etcd.Client(t, faults.DialOptions()...), at), newLimiter(t, etcd.Client(t), at)
	id := newQuota(t, b, 100, time.Minute)
	late := faults.Late(coretest.Puts(id.name))
	if o, err := a.take(within(t), id, 1); err != nil || !o.allowed {
		t.Fatal(o, err)
	}
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	if n := drain(t, a, id) + drain(t, b, id); n != 99 {
		t.Errorf("%d tokens more, want 99", n)
	}
}

// A block of a window that is over, of a quota that was deleted or begun again,
// is not given back to the one that stands there now.
func TestOldBlocksStayAway(t *testing.T) {
	for name, change := range map[string]func(l *limiter, at *clock, id quotaID) error{
		"next window": func(_ *limiter, at *clock, _ quotaID) error { at.pass(time.Minute); return nil },
		"restarted":   func(l *limiter, _ *clock, id quotaID) error { return l.set(t.Context(), id, 100, time.Minute, true) },
		"deleted": func(l *limiter, at *clock, id quotaID) error {
			at.pass(time.Second)
			return errors.Join(l.remove(t.Context(), id), l.set(t.Context(), id, 100, time.Minute, false))
		},
	} {
		t.Run(name, func(t *testing.T) {
			at := newClock()
			a, b := newLimiter(t, etcd.Client(t), at), newLimiter(t, etcd.Client(t), at)
			id := newQuota(t, b, 100, time.Minute)
			if o, err := a.take(within(t), id, 1); err != nil || !o.allowed || a.stocks[id].left == 0 {
				t.Fatal(o, err)
			}
			if err := change(b, at, id); err != nil {
				t.Fatal(err)
			}
			if n := drain(t, b, id); n != 100 {
				t.Errorf("%d tokens of 100", n)
			}
			if err := a.sweep(within(t), 0); err != nil {
				t.Fatal(err)
			}
			at.pass(2 * time.Second)
			if n := drain(t, b, id); n != 0 {
				t.Errorf("%d tokens more than the quota", n)
			}
		})
	}
}

func TestQuotaChanges(t *testing.T) {
	at := newClock()
	a, b := newLimiter(t, etcd.Client(t), at), newLimiter(t, etcd.Client(t), at)
	id := newQuota(t, a, 10, time.Minute)
	if n := drain(t, a, id); n != 10 {
		t.Fatal(n)
	}
	if err := b.set(within(t), id, 15, time.Hour, false); err != nil {
		t.Fatal(err)
	}
	at.pass(2 * time.Second) // a refusal is remembered for a second
	if n := drain(t, a, id); n != 5 {
		t.Errorf("raised by 5: %d more", n)
	}
	at.pass(28 * time.Second) // 12:01: the minute has ended, an hour begins
	if n := drain(t, b, id); n != 15 {
		t.Errorf("next window: %d", n)
	}
	at.pass(58 * time.Minute)
	if n := drain(t, b, id); n != 0 {
		t.Errorf("within the hour: %d", n)
	}
	at.pass(time.Minute)
	if n := drain(t, a, id); n != 15 {
		t.Errorf("next hour: %d", n)
	}
}

// A clock that is wrong is told, and an operator mends it.
func TestWrongClock(t *testing.T) {
	at, wrong := newClock(), newClock()
	wrong.pass(24 * time.Hour)
	a, b := newLimiter(t, etcd.Client(t), at), newLimiter(t, etcd.Client(t), wrong)
	id := newQuota(t, a, 10, time.Minute)
	if n := drain(t, b, id); n != 10 {
		t.Fatal(n)
	}
	if _, err := a.take(within(t), id, 1); recipe.Reason(err) != "clock_skew" {
		t.Errorf("a day behind: %v", err)
	}
	if err := a.set(within(t), id, 10, time.Minute, true); err != nil {
		t.Fatal(err)
	}
	if n := drain(t, a, id); n != 10 {
		t.Errorf("begun again: %d", n)
	}
}

func TestBadInput(t *testing.T) {
	s := &service{limiter: newLimiter(t, etcd.Client(t), newClock())}
	ctx := within(t)
	for want, call := range map[string]func() (any, error){
		"not_found: quota \"none\"":                   func() (any, error) { return s.Take(ctx, &ratelimitv1.TakeRequest{Name: "none"}) },
		"invalid_name: name: ":                        func() (any, error) { return s.Take(ctx, &ratelimitv1.TakeRequest{Name: "a//b"}) },
		"invalid_tokens: tokens: is -1, must be 1 to": func() (any, error) { return s.Take(ctx, &ratelimitv1.TakeRequest{Name: "a", Tokens: -1}) },
		"invalid_namespace: ":                         func() (any, error) { return s.Status(ctx, &ratelimitv1.StatusRequest{Namespace: "/", Name: "a"}) },
		"not_found: quota \"a\"":                      func() (any, error) { return s.Status(ctx, &ratelimitv1.StatusRequest{Name: "a"}) },
		"invalid_tokens: tokens: is 0":                func() (any, error) { return s.SetQuota(ctx, &ratelimitv1.SetQuotaRequest{Name: "a"}) },
		"invalid_window: window: is 0s":               func() (any, error) { return s.SetQuota(ctx, &ratelimitv1.SetQuotaRequest{Name: "a", Tokens: 1}) },
	} {
		if _, err := call(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, percent := range []int32{-1, 101} {
		config := &ratelimitv1.Config{BlockPercent: percent}
		if err := (Recipe{}).Validate(config); err == nil || !strings.HasPrefix(err.Error(), "block_percent: ") {
			t.Error(err)
		}
		if _, err := open(t, config); err == nil {
			t.Errorf("opened with %d per cent", percent)
		}
	}
	if err := answer(quotaID{}, recipe.Errorf(codes.Unavailable, "no_quorum", "x")); recipe.Reason(err) != "no_quorum" {
		t.Error(err)
	}
}

// An instance that is closed, twice, has given everything back.
func TestClose(t *testing.T) {
	i, err := open(t, &ratelimitv1.Config{BlockPercent: 50})
	if err != nil {
		t.Fatal(err)
	}
	l := i.(*instance).limiter
	id := newQuota(t, l, 1_000_000, 24*time.Hour)
	if o, err := l.take(within(t), id, 7); err != nil || !o.allowed {
		t.Fatal(o, err)
	}
	for range 2 {
		if err := i.Close(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	r, kept, err := l.look(within(t), id)
	if err != nil || r.Spent != 7 || kept != 0 {
		t.Errorf("%+v, %d kept, %v", r, kept, err)
	}
}
