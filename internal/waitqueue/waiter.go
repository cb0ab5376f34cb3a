package waitqueue

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/watch"
)

// A waiter is an acquisition in line: it looks when something happened, and
// watches the one key that blocks it.
type waiter struct {
	a       *acquisition
	timer   *time.Timer
	blocked *watch.Watch
}

func (w *waiter) stop() {
	w.timer.Stop()
	w.unblock()
}

func (w *waiter) unblock() {
	if w.blocked != nil {
		w.blocked.Stop()
		w.blocked = nil
	}
}

// wake acts on what was seen: it returns the tenure or an error, or neither to
// go on waiting.
func (w *waiter) wake(ctx context.Context, s sightings) (*tenure, error) {
	a := w.a
	switch {
	case s.granted != nil:
		return a.tenureOf(s.granted), nil
	case s.gone && a.req.Mode != Set:
		return nil, wasDeleted()
	case !s.look && !s.gone:
		return nil, nil
	}
	if w.blocked != nil { // its target went: in a handover the own event follows at once
		grace := time.NewTimer(ownEventGrace)
		defer grace.Stop()
		select {
		case <-a.signal:
			if s := a.take(); s.granted != nil {
				return a.tenureOf(s.granted), nil
			}
		case <-grace.C:
		case <-ctx.Done():
			return nil, waitError(ctx)
		}
	}
	return w.look(ctx)
}

// look reads the line until it has claimed the names or knows a key that
// blocks it, which it then watches.
func (w *waiter) look(ctx context.Context) (*tenure, error) {
	w.unblock()
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		t, settled, err := w.lookOnce(ctx)
		if t != nil || errors.Is(err, errGone) {
			return t, err
		}
		if settled {
			w.timer.Reset(w.a.q.e.TTL()) // the safety net: whatever was missed is seen then
			return nil, nil
		}
		if err != nil {
			w.a.q.e.Log().Debug("look at the line", "error", err)
			if err := sleep(ctx, pause); err != nil {
				return nil, err
			}
		}
	}
}

// lookOnce looks once. It returns a tenure, or whether the waiter now watches
// what blocks it; neither means that it shall look again.
func (w *waiter) lookOnce(ctx context.Context) (t *tenure, settled bool, err error) {
	a := w.a
	if err := a.watchAll(ctx); err != nil { // an own watch that was lost comes before the look
		return nil, false, err
	}
	v, err := a.look(ctx)
	switch {
	case err != nil:
		return nil, false, err
	case v.granted != nil:
		return a.tenureOf(v.granted), false, nil
	case v.owned > 0 && recordOf(v.set).Broken > 0:
		return nil, false, a.brokenSet(v.set)
	case v.owned > 0: // a claim whose reply was lost
		return a.tenureAt(v.owned), false, nil
	case v.gone:
		return nil, false, a.wasTaken(ctx)
	case v.blocker == nil:
		return w.claim(ctx, v)
	}
	return nil, true, w.watch(ctx, v.blocker)
}

func (w *waiter) claim(ctx context.Context, v *sight) (*tenure, bool, error) {
	r, err := w.a.q.e.Do(ctx, w.a.claimTxn(v))
	if err != nil && !errors.Is(err, commit.ErrUnknown) {
		return nil, false, err
	}
	if err == nil && r.Succeeded {
		t := w.a.tenureAt(r.Revision)
		t.ticketed()
		return t, false, nil
	}
	return nil, false, err // an unknown claim is harmless: its guard is the waiting ticket
}

// watch waits for the end of what blocks the waiter. If the watch cannot be
// opened, or is lost, the waiter looks again.
func (w *waiter) watch(ctx context.Context, b *blocker) error {
	look := func() { w.a.see(func(s *sightings) { s.look = true }) }
	opened, err := watch.Key(ctx, w.a.q.e.Client(), b.key, watch.Options{
		Prefix:   b.prefix,
		Revision: b.rev + 1,
		NoPut:    !b.puts,
		Streams:  w.a.q.streams,
		Event:    func(*clientv3.Event) { look() },
		Lost:     func(error) { look() },
	})
	if err != nil {
		return err
	}
	w.blocked = opened
	return nil
}
