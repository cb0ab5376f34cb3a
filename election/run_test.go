package election_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

// A logbook keeps what a session logs.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) has(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), text)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// Run leads once a term, and lets others have their turn between terms.
func TestRun(t *testing.T) {
	name := etcd.Prefix(t)
	const candidates, rounds = 3, 4
	var leading, terms atomic.Int32
	var tokens sync.Map
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	calls := make([]*call[struct{}], candidates)
	for i := range calls {
		e := election.New(session(t), name)
		calls[i] = inBackground(func() (struct{}, error) {
			return struct{}{}, e.Run(ctx, "v", func(ctx context.Context) error {
				if leading.Add(1) > 1 {
					t.Error("two lead")
				}
				defer leading.Add(-1)
				token, _ := core.TokenFrom(ctx)
				if _, twice := tokens.LoadOrStore(token, true); twice {
					t.Errorf("term %d twice", token)
				}
				if term, ok := election.TermFrom(ctx); !ok || term.Token() != token {
					t.Error("the context has another term")
				}
				if terms.Add(1) == candidates*rounds {
					cancel()
				}
				return nil
			})
		})
	}
	for _, c := range calls {
		_, err := c.result(t)
		isAll(t, err, context.Canceled)
	}
	nothingLeft(t, name)
}

func TestRunEnds(t *testing.T) {
	name := etcd.Prefix(t)
	failed := errors.New("out of paint")
	e := election.New(session(t), name)
	isAll(t, e.Run(within(t), "v", func(context.Context) error { return failed }), failed)
	nothingLeft(t, name)

	cause := errors.New("shutdown")
	ctx, cancel := context.WithCancelCause(within(t))
	err := e.Run(ctx, "v", func(work context.Context) error {
		cancel(cause)
		<-work.Done()
		isAll(t, context.Cause(work), cause)
		return work.Err()
	})
	isAll(t, err, context.Canceled, cause)
	ctx, cancel = context.WithCancelCause(within(t))
	isAll(t, e.Run(ctx, "v", func(work context.Context) error {
		cancel(cause)
		return failed
	}), failed)
	nothingLeft(t, name)
}

// The session ends while Run leads: lead is told, and Run says why.
func TestRunWhenTheSessionDies(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t, core.WithTTL(5*time.Second))
	err := election.New(s, name).Run(within(t), "v", func(work context.Context) error {
		coretest.ExpireLease(t, etcd.Client(t), s.Lease())
		<-work.Done()
		isAll(t, context.Cause(work), election.ErrLost, core.ErrSessionExpired)
		return errors.New("a consequence")
	})
	isAll(t, err, core.ErrSessionExpired)
}

// The session ends while Run stands, or waits until it is healthy.
func TestRunWhenTheSessionDiesBeforeItLeads(t *testing.T) {
	for _, ill := range []bool{false, true} {
		name := etcd.Prefix(t)
		other := won(t, election.New(session(t), name), "other")
		var h health
		h.broken.Store(ill)
		s := session(t, core.WithTTL(5*time.Second))
		e := election.New(s, name, election.WithHealth(h.check, healthTime))
		ctx := within(t)
		run := inBackground(func() (struct{}, error) {
			return struct{}{}, e.Run(ctx, "v", func(context.Context) error {
				t.Error("it leads")
				return nil
			})
		})
		if !ill {
			contenders(t, election.New(session(t), name), 2)
		}
		coretest.ExpireLease(t, etcd.Client(t), s.Lease())
		_, err := run.result(t)
		isAll(t, err, core.ErrSessionExpired)
		resign(t, other)
		nothingLeft(t, name)
	}
}

// A term that is taken away ends lead; Run campaigns again.
func TestRunGoesOnAfterALoss(t *testing.T) {
	name := etcd.Prefix(t)
	var terms []core.Token
	done := errors.New("done")
	isAll(t, election.New(session(t), name).Run(within(t), "v", func(work context.Context) error {
		token, _ := core.TokenFrom(work)
		if terms = append(terms, token); len(terms) == 3 {
			return done
		}
		if _, err := etcd.Client(t).Delete(work, prefixOf(name)+"grant"); err != nil {
			t.Error(err)
		}
		<-work.Done()
		return errors.New("a consequence")
	}), done)
	for i := 1; i < len(terms); i++ {
		if terms[i] <= terms[i-1] {
			t.Errorf("terms %v", terms)
		}
	}
}

// A lead that panics leaves no leader behind.
func TestRunPanics(t *testing.T) {
	name := etcd.Prefix(t)
	func() {
		defer func() { _ = recover() }()
		_ = election.New(session(t), name).Run(within(t), "v", func(context.Context) error { panic("out of paint") })
	}()
	nothingLeft(t, name)
}

// A lead that goes on after its context ended is reported, and nobody else leads
// before it has returned.
func TestRunReportsWhoGoesOn(t *testing.T) {
	name := etcd.Prefix(t)
	var log logbook
	s := session(t, core.WithLogger(log.logger()))
	ctx, cancel := context.WithCancel(within(t))
	leads, leave := make(chan struct{}), make(chan struct{})
	reports := make(chan election.Overrun, 2)
	e := election.New(s, name, election.WithGrace(time.Millisecond), election.WithOverrun(func(o election.Overrun) { reports <- o }))
	run := inBackground(func() (struct{}, error) {
		return struct{}{}, e.Run(ctx, "v", func(context.Context) error {
			close(leads)
			<-leave
			return nil
		})
	})
	<-leads
	other := election.New(session(t), name)
	next := campaigning(t, other, "next", 2)
	cancel()
	eventually(t, "a report", func() bool { return log.has("leader goes on after its term") })
	if l := leader(t, other); l.Value != "v" {
		t.Errorf("leader %+v before the old one has returned", l)
	}
	close(leave)
	_, err := run.result(t)
	isAll(t, err, context.Canceled)
	resign(t, next.get(t))
	if o := <-reports; o.Term.Name() != name || o.Grace != time.Millisecond || !errors.Is(o.Cause, context.Canceled) || len(reports) > 0 {
		t.Errorf("report %+v, and %d more", o, len(reports))
	}
}

// healthTime is between two checks, and how long one may take: a busy machine runs a
// check that does nothing a good deal later.
const healthTime = 250 * time.Millisecond

// A switchable check.
type health struct{ broken atomic.Bool }

var errBroken = errors.New("disk is read-only")

func (h *health) check(context.Context) error {
	if h.broken.Load() {
		return errBroken
	}
	return nil
}

// A leader that fails its check resigns, and does not stand until it passes.
func TestHealth(t *testing.T) {
	name := etcd.Prefix(t)
	var h health
	e := election.New(session(t), name, election.WithHealth(h.check, healthTime), election.WithGrace(10*time.Millisecond))
	other := election.New(session(t), name)

	term := won(t, e, "one")
	next := campaigning(t, other, "two", 2)
	h.broken.Store(true)
	cause := ended(t, term)
	isAll(t, cause, election.ErrUnhealthy, core.ErrReleased, errBroken)
	second := next.get(t) // although nobody resigned
	if err := term.Resign(); err != nil {
		t.Error(err)
	}
	_, err := e.Campaign(within(t), "one")
	isAll(t, err, election.ErrUnhealthy, errBroken)
	resign(t, second)

	var terms atomic.Int32
	ctx, cancel := context.WithCancel(within(t))
	run := inBackground(func() (struct{}, error) {
		return struct{}{}, e.Run(ctx, "one", func(work context.Context) error {
			if terms.Add(1) == 2 {
				cancel()
			}
			h.broken.Store(true)
			<-work.Done()
			return work.Err()
		})
	})
	h.broken.Store(false)
	third := func() *election.Term {
		eventually(t, "the first term", func() bool { return terms.Load() == 1 })
		return won(t, other, "two")
	}()
	resign(t, third)
	h.broken.Store(false)
	_, err = run.result(t)
	isAll(t, err, context.Canceled)
	if terms.Load() != 2 {
		t.Errorf("%d terms", terms.Load())
	}
	nothingLeft(t, name)
}

// A check that does not return has failed.
func TestHealthHangs(t *testing.T) {
	name := etcd.Prefix(t)
	var hang atomic.Bool
	leave := make(chan struct{})
	defer close(leave)
	e := election.New(session(t), name, election.WithHealth(func(ctx context.Context) error {
		if hang.Load() {
			<-leave
		}
		return nil
	}, healthTime))
	term := won(t, e, "one")
	hang.Store(true)
	isAll(t, ended(t, term), election.ErrUnhealthy, context.DeadlineExceeded)
	resign(t, term)
	nothingLeft(t, name)
}
