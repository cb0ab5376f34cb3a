package election

import (
	"context"
	"errors"
	"time"
)

// Run campaigns, calls lead once for each term that it wins, waits for it to
// return, resigns, and campaigns again. The context of lead ends with the term
// or with ctx, whichever is first; it carries the token and the term.
//
// Run never resigns while lead runs: if lead goes on after its context ended, for
// longer than the grace ([WithGrace]), the session's logger is told, and whoever
// asked for it ([WithOverrun]); the next leader waits for it until the session ends,
// or the grace of a transfer or of a forced resignation is over.
//
// A lead that returns nil gives others their turn. Run returns the error of a lead
// whose term had not ended; an error after the end of its term, which is usually
// its consequence, is logged, and Run campaigns again. It returns an error that is
// ctx.Err() when ctx ends, unless lead had another error to tell; and an error
// that is core.ErrSessionExpired or core.ErrSessionClosed when the session ended,
// for which core.Keep opens the next one. Other errors are those of Campaign.
func (e *Election) Run(ctx context.Context, value string, lead func(ctx context.Context) error) error {
	for {
		if err := e.o.validate(); err != nil {
			return named(e.name, err)
		}
		if err := e.untilHealthy(ctx); err != nil {
			return named(e.name, err)
		}
		t, err := e.campaign(ctx, value, -1, e.q.Acquire)
		switch {
		case errors.Is(err, ErrUnhealthy) && ctx.Err() == nil:
			continue
		case err != nil:
			return err
		}
		if again, err := e.serve(ctx, t, lead); !again {
			return err
		}
	}
}

// serve leads for one term, and reports whether another may follow.
func (e *Election) serve(ctx context.Context, t *Term, lead func(context.Context) error) (again bool, err error) {
	work, cancel := context.WithCancelCause(t.Context())
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	defer stop()
	defer cancel(nil)
	defer func() { _ = t.Resign() }() // also when lead panics
	returned := e.mind(work, t)
	err = func() error {
		defer returned()
		return lead(work)
	}()
	over := t.Context().Err() != nil
	log := e.s.Engine().Log()
	if resignErr := t.Resign(); resignErr != nil {
		log.Debug("resign", "election", e.name, "token", int64(t.Token()), "error", resignErr)
	}
	switch {
	case ctx.Err() != nil:
		if err == nil || errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) {
			err = named(e.name, errors.Join(ctx.Err(), context.Cause(ctx)))
		}
		return false, err
	case e.s.Context().Err() != nil:
		return false, named(e.name, context.Cause(e.s.Context()))
	case over && err != nil && !errors.Is(err, context.Canceled):
		log.Warn("leader failed after its term", "election", e.name, "token", int64(t.Token()), "error", err)
	case !over && err != nil:
		return false, err
	}
	return true, nil
}

// An Overrun is a leader who goes on although its context ended long ago.
type Overrun struct {
	Term  *Term         // that it led in
	Grace time.Duration // that it had
	Cause error         // of its context's end
}

// mind reports a leader that goes on for longer than the grace after its context
// ended. What it returns is called when the leader is done.
func (e *Election) mind(work context.Context, t *Term) (returned func()) {
	done, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-work.Done():
		case <-done:
			return
		}
		grace := time.NewTimer(e.o.request.Grace)
		defer grace.Stop()
		select {
		case <-grace.C:
			e.overran(Overrun{Term: t, Grace: e.o.request.Grace, Cause: context.Cause(work)})
		case <-done:
		}
	}()
	return func() {
		close(done)
		<-over
	}
}

func (e *Election) overran(o Overrun) {
	e.s.Engine().Log().Warn("leader goes on after its term", "election", e.name, "token", int64(o.Term.Token()),
		"grace", o.Grace, "cause", o.Cause)
	if e.o.overrun != nil {
		e.o.overrun(o)
	}
}
