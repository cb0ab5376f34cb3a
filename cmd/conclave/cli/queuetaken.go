package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/clock"
)

// A taken is an item that a command is run for.
type taken struct {
	*delivery
	h    *shift
	lost context.Context // ends when the command may not run any more
	lose context.CancelCauseFunc

	mu   sync.Mutex
	from clock.Stamp // the delivery lasts for the visibility from then on, or longer
}

// taken is an item that was asked for at a time: its delivery is not older.
func (h *shift) taken(d *delivery, asked clock.Stamp) *taken {
	t := &taken{delivery: d, h: h, from: asked}
	t.lost, t.lose = context.WithCancelCause(d.owned)
	return t
}

// handle runs the command for an item, and settles it.
func (h *shift) handle(t *taken) {
	defer t.lose(nil)
	stop := context.AfterFunc(h.lasts, func() { t.lose(context.Cause(h.lasts)) })
	defer stop()
	if h.accepting.Err() != nil {
		t.giveBack("the worker stopped")
		return
	}
	if t.lasted() > h.flags.visibility.value/3 {
		// It was waited for, and nobody knows how long the delivery has lasted.
		if err := t.prolong(); err != nil {
			h.say(t, fmt.Sprintf("not started: %s", describe(err).Message))
			t.giveBack("not started")
			return
		}
	}
	ctx, cancel := context.WithCancel(t.lost)
	extended := make(chan struct{})
	go func() {
		defer close(extended)
		t.extendAll(ctx)
	}()
	res, err := t.run()
	cancel()
	<-extended
	t.settle(res, err)
}

// lasted is how long the delivery may have lasted since it was known to have all of
// its time.
func (t *taken) lasted() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return clock.Since(t.from)
}

// remaining is how long nobody else is given the item.
func (t *taken) remaining() time.Duration {
	if t.owned.Err() != nil || t.lost.Err() != nil {
		return 0
	}
	visibility := t.h.flags.visibility.value
	return min(visibility-visibility/10-t.lasted(), t.h.session.Remaining())
}

// prolong makes the delivery last for its time from now on.
func (t *taken) prolong() error {
	began := clock.Now()
	ctx, cancel := context.WithTimeout(t.lost, max(t.remaining(), time.Second))
	defer cancel()
	if err := t.extend(ctx, t.h.flags.visibility.value); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.from = began
	return nil
}

// extendAll extends the delivery until ctx ends, or it is over.
func (t *taken) extendAll(ctx context.Context) {
	every := t.h.flags.visibility.value / 3
	timer := time.NewTimer(every - t.lasted())
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		next := every
		switch err := t.prolong(); {
		case isStale(err):
			t.lose(err)
			return
		case err != nil:
			next = max(every/8, 10*time.Millisecond)
		}
		timer.Reset(next)
	}
}

// run runs the command.
func (t *taken) run() (supervise.Result, error) {
	h := t.h
	stdin, feed, err := os.Pipe()
	if err != nil {
		return supervise.Result{}, err
	}
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		_, _ = feed.Write(t.payload) // a command need not read it
		_ = feed.Close()
	}()
	defer func() {
		_ = stdin.Close()
		_ = feed.Close() // who left the group may have the other end
		<-fed
	}()
	signals, done := h.signaled()
	defer done()
	cfg := h.command
	cfg.Stdin, cfg.Signals, cfg.Lost = stdin, signals, t.lost
	cfg.Remaining = t.remaining
	cfg.Env = append(withoutItem(withoutOwn(h.app.environ)),
		"CONCLAVE_NAME="+h.name,
		"CONCLAVE_TOKEN="+strconv.FormatInt(int64(t.token), 10),
		"CONCLAVE_SESSION="+h.session.ID(),
		"CONCLAVE_OWNER="+h.session.Owner(),
		"CONCLAVE_ITEM="+t.id,
		"CONCLAVE_ATTEMPT="+strconv.Itoa(t.attempt))
	// A third is the least that is left of each while renewals are answered.
	cfg.Grace = min(h.grace.value, h.ttl.value/3, h.flags.visibility.value/3)
	cfg.Leftover = cfg.Grace
	cfg.Interval = min(h.ttl.value/30, h.flags.visibility.value/30, 500*time.Millisecond)
	return supervise.Run(cfg)
}

// withoutItem leaves out what the command of an outer worker was given.
func withoutItem(env []string) []string {
	out := make([]string, 0, len(env)+6)
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); name != "CONCLAVE_ITEM" && name != "CONCLAVE_ATTEMPT" {
			out = append(out, kv)
		}
	}
	return out
}

// settle says what becomes of the item.
func (t *taken) settle(res supervise.Result, err error) {
	h := t.h
	start, notStarted := errors.AsType[*supervise.StartError](err)
	switch {
	case notStarted:
		h.stop(notRunnable(start.Path, start.Err))
		t.giveBack("the command cannot be executed")
		return
	case err != nil:
		h.stop(fmt.Errorf("queue %q: %w", h.name, err))
		t.giveBack("the command cannot be guarded")
		return
	case res.Code == 0:
		t.done()
		return
	case res.Asked:
		h.stop(errAsked) // by a person at a terminal, if the worker did not hear of it
	}
	switch {
	case res.Lost:
		h.say(t, "the command was ended: "+t.whyLost(res.Why))
		t.giveBack("the command was ended: " + t.whyLost(res.Why))
	case h.accepting.Err() != nil:
		t.giveBack(fmt.Sprintf("the worker stopped: exit code %d", res.Code))
	default:
		t.failed(res.Code)
	}
}

func (t *taken) whyLost(why error) string {
	if why == nil {
		return "no renewal was acknowledged in time"
	}
	return oneLine(why)
}

// done acks the item.
func (t *taken) done() {
	ctx, cancel := t.settling()
	defer cancel()
	err := t.ack(ctx)
	switch {
	case err == nil:
	case errors.Is(err, core.ErrUnknownOutcome), ctx.Err() != nil:
		t.h.say(t, "the command ended, and it is not known whether that is recorded: it may be delivered again")
	case isStale(err):
		t.h.say(t, "the command ended too late, its delivery was over: it is delivered again")
	default:
		t.h.say(t, "could not be acked, and is delivered again: "+oneLine(describe(err)))
	}
}

// failed gives the item back for another attempt, after a pause.
func (t *taken) failed(code int) {
	after := t.h.flags.retry(t.attempt)
	reason := fmt.Sprintf("exit code %d", code)
	next := "again in " + roughly(after)
	if t.attempt >= t.h.flags.attempts {
		next = "it is a dead letter now"
	}
	if err := t.back(after, reason); err == nil {
		t.h.say(t, reason+"; "+next)
	}
}

// giveBack puts the item in front of the queue again, if it can still be done. If not
// it comes back with the end of the delivery.
func (t *taken) giveBack(reason string) {
	if t.owned.Err() == nil {
		_ = t.back(0, reason)
	}
}

func (t *taken) back(after time.Duration, reason string) error {
	ctx, cancel := t.settling()
	defer cancel()
	err := t.nack(ctx, after, reason)
	if err != nil {
		t.h.say(t, "could not be given back, and comes back by itself: "+oneLine(describe(err)))
	}
	return err
}

// settling bounds what is done with an item after its command.
func (t *taken) settling() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.lost), releasing)
}

// say tells the user of an item.
func (h *shift) say(t *taken, what string) {
	h.app.note(fmt.Sprintf("queue %q: item %s, attempt %d: %s", h.name, t.id, t.attempt, what))
}
