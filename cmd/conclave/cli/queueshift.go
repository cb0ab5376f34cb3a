package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/conclavehq/conclave/cmd/conclave/internal/supervise"
	"github.com/conclavehq/conclave/internal/clock"
)

var (
	errAsked   = errors.New("the command was asked to end")
	errDrained = errors.New("the worker stops, and the command had not ended within --grace")
)

// A shift is the work of a worker under one session.
type shift struct {
	*worker
	command supervise.Config
	session consumer

	accepting context.Context // ends when no further item is to be taken
	stop      context.CancelCauseFunc
	lasts     context.Context // ends when no command may run any more
	kill      context.CancelCauseFunc
	free      chan struct{} // a token for each command that may run beside those that do

	mu    sync.Mutex
	runs  map[chan<- os.Signal]bool
	pause time.Duration // after a take that failed
}

func newShift(ctx context.Context, w *worker, command supervise.Config, s consumer) *shift {
	h := &shift{worker: w, command: command, session: s, free: make(chan struct{}, w.flags.concurrency), runs: make(map[chan<- os.Signal]bool)}
	h.command.Guard = nil // that one is the session's: each command has its own
	h.accepting, h.stop = context.WithCancelCause(ctx)
	h.lasts, h.kill = context.WithCancelCause(context.WithoutCancel(ctx))
	for range cap(h.free) {
		h.free <- struct{}{}
	}
	return h
}

// work takes items and runs the command for each, until a signal came, or it cannot go
// on: nil says the former.
func (h *shift) work() error {
	done, attended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(attended)
		h.attend(done)
	}()
	var running sync.WaitGroup
	for {
		items, err := h.take()
		for _, d := range items {
			running.Go(func() {
				h.handle(d)
				h.free <- struct{}{}
			})
		}
		if err != nil {
			h.stop(err)
			break
		}
	}
	running.Wait()
	close(done)
	<-attended
	h.kill(nil)
	err := context.Cause(h.accepting)
	if _, told := errors.AsType[signalError](err); told || errors.Is(err, errAsked) {
		return nil
	}
	return err
}

// take waits until a command can run, and for items. The error says why there will be
// none any more.
func (h *shift) take() ([]*taken, error) {
	for {
		room, err := h.room()
		if err != nil {
			return nil, err
		}
		began := clock.Now()
		items, err := h.session.take(h.accepting, h.name, room, taking{visibility: h.flags.visibility.value, attempts: h.flags.attempts})
		for range room - len(items) {
			h.free <- struct{}{}
		}
		if err == nil {
			h.pause = 0
			all := make([]*taken, len(items))
			for i, d := range items {
				all[i] = h.taken(d, began)
			}
			return all, nil
		}
		if over := h.session.Context(); over.Err() != nil {
			return nil, context.Cause(over)
		}
		if h.accepting.Err() != nil || !mayPass(err) {
			return nil, err
		}
		h.pause = min(max(2*h.pause, 200*time.Millisecond), 5*time.Second)
		h.app.note(fmt.Sprintf("%s; asking again", describe(err).Message))
		if err := h.wait(h.pause); err != nil {
			return nil, err
		}
	}
}

// room waits until a command can run, and returns how many can.
func (h *shift) room() (int, error) {
	select {
	case <-h.accepting.Done():
		return 0, context.Cause(h.accepting)
	case <-h.session.Context().Done():
		return 0, context.Cause(h.session.Context())
	case <-h.free:
	}
	for n := 1; ; n++ {
		select {
		case <-h.free:
		default:
			return n, nil
		}
	}
}

func (h *shift) wait(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-h.accepting.Done():
		return context.Cause(h.accepting)
	}
}

// attend passes signals on to the commands that run, and ends them a grace after the
// shift was told to stop.
func (h *shift) attend(done <-chan struct{}) {
	stopped := h.accepting.Done()
	var grace <-chan time.Time
	for {
		select {
		case sig := <-h.signals:
			if s, ok := ends(sig); ok {
				h.stop(signalError{s})
			}
			h.forward(sig)
		case <-stopped:
			stopped = nil
			if _, told := errors.AsType[signalError](context.Cause(h.accepting)); !told {
				h.forward(syscall.SIGTERM)
			}
			grace = time.After(h.grace.value)
		case <-grace:
			h.kill(errDrained)
		case <-done:
			return
		}
	}
}

// forward sends a signal to all commands that run.
func (h *shift) forward(sig os.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for run := range h.runs {
		select {
		case run <- sig:
		default: // it has enough of them to read
		}
	}
}

// signaled returns a channel with the signals for one command, until done. One that
// comes when the shift has been told to stop gets the signal at once.
func (h *shift) signaled() (signals <-chan os.Signal, done func()) {
	c := make(chan os.Signal, 8)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs[c] = true
	if sig, told := errors.AsType[signalError](context.Cause(h.accepting)); told {
		c <- sig.sig
	} else if h.accepting.Err() != nil {
		c <- syscall.SIGTERM
	}
	return c, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.runs, c)
	}
}

// retry is how long an item waits after its command failed.
func (f *workFlags) retry(attempt int) time.Duration {
	d := min(f.backoff.value<<min(attempt-1, 16), maxBackoff)
	if d <= 0 {
		return 0
	}
	return d - time.Duration(rand.Int64N(int64(d)/5+1)) //nolint:gosec // so that they do not all come back at once
}
