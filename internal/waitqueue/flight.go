package waitqueue

import (
	"context"
	"errors"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/engine"
)

// A flight acquires a name for all calls of one session that want it in the same
// way: the lease owns the name at most once. It has a goroutine of its own, so
// that the place in line stays when one of several callers goes.
type flight struct {
	q      *Queue
	n      *name
	req    Request
	only   bool // it does not wait
	cancel context.CancelCauseFunc

	callers int  // guarded by n.mu, like the next two
	decided bool // callers get what it came to
	ending  bool // the last caller has gone before

	owned *Owned // set before done is closed, like err
	err   error
	done  chan struct{} // closed when callers can have their answer
	over  chan struct{} // closed when nothing is left to do
}

// acquireOne acquires for the only ownership that the lease may have. With only
// it does not wait.
func (q *Queue) acquireOne(ctx context.Context, r *Request, only bool) (*Owned, error) {
	n := q.use(r.Names[0])
	defer q.drop(n)
	for {
		f, aboard, err := q.board(n, r, only)
		if err != nil {
			return nil, err
		}
		if aboard {
			return f.wait(ctx)
		}
		select {
		case <-f.over:
		case <-ctx.Done():
			return nil, waitError(ctx)
		}
	}
}

// board joins the name's flight, or starts one. If it does neither, the flight
// that it returns is to be waited out.
func (q *Queue) board(n *name, r *Request, only bool) (f *flight, aboard bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f = n.flight; f != nil {
		switch {
		case f.decided || f.ending || (f.only && !only):
			return f, false, nil
		case !f.like(r):
			return nil, false, ErrOtherwise
		case only && !f.only:
			return nil, false, &HeldError{Name: r.Names[0]}
		}
		f.callers++
		return f, true, nil
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	f = &flight{q: q, n: n, req: *r, only: only, cancel: cancel, callers: 1, done: make(chan struct{}), over: make(chan struct{})}
	n.flight = f
	q.e.Go(func(context.Context) { f.run(ctx) })
	return f, true, nil
}

func (f *flight) like(r *Request) bool {
	return f.req.Mode == r.Mode && f.req.Permits == r.Permits && f.req.Limit == r.Limit && f.req.Priority == r.Priority
}

// wait returns what the flight came to, or that ctx ended first.
func (f *flight) wait(ctx context.Context) (*Owned, error) {
	caller, session := engine.Ends(ctx)
	select {
	case <-f.done:
		return f.owned, f.err
	case <-caller:
	case <-session:
	}
	_ = ctx.Err() // a joint context finds out here why it ended
	f.n.mu.Lock()
	decided := f.decided
	if !decided {
		f.callers--
		f.ending = f.callers == 0
	}
	last := f.ending
	f.n.mu.Unlock()
	switch {
	case decided: // for this caller too
		<-f.done
		return f.owned, f.err
	case last:
		f.cancel(context.Cause(ctx))
		t := time.NewTimer(abandonWait)
		defer t.Stop()
		select {
		case <-f.over:
		case <-t.C:
		}
	}
	return nil, waitError(ctx)
}

func (f *flight) run(ctx context.Context) {
	defer f.cancel(nil)
	ctx, cancel := f.q.untilSessionEnds(ctx)
	defer cancel()
	a, t, err := f.obtain(ctx)
	var left <-chan struct{}
	if err != nil {
		left, err = a.fail(ctx, err)
	}
	f.n.mu.Lock()
	f.decided = f.callers > 0
	f.n.mu.Unlock()
	switch {
	case err != nil:
		f.err = err
	case f.decided:
		f.owned = t.newOwned(context.Background(), a)
	default: // nobody is there to take it
		t.giveUp(f.q.e.Context())
	}
	close(f.done)
	if left != nil {
		<-left
	}
	f.n.mu.Lock()
	f.n.flight = nil
	f.n.mu.Unlock()
	close(f.over)
}

// obtain acquires, or goes on where the lease stands already. The acquisition
// that it returns is the one that ends with the tenure or the error.
func (f *flight) obtain(ctx context.Context) (*acquisition, *tenure, error) {
	a := f.fresh()
	for {
		t, err := a.takeOrTry(ctx, f.only)
		if own, ok := errors.AsType[*ownError](err); ok {
			a, t, err = a.goOn(ctx, own.belongings, f.only)
		}
		if errors.Is(err, errGone) {
			err = a.whyGone(ctx, err)
		}
		switch {
		case errors.Is(err, errTaken): // its void record stands already
			a.forget()
			a = f.fresh()
		case !errors.Is(err, errChanged):
			return a, t, err
		}
		if ctx.Err() != nil {
			return a, nil, waitError(ctx)
		}
	}
}

func (f *flight) fresh() *acquisition {
	return f.q.newAcquisition(&f.req, []*name{f.q.use(f.n.name)})
}

func (a *acquisition) takeOrTry(ctx context.Context, only bool) (*tenure, error) {
	if only {
		return a.tryOnce(ctx, true)
	}
	return a.takeOrWait(ctx)
}

// keepsPlace tells whether what an acquisition has in etcd is left to the next
// host of its session.
func (a *acquisition) keepsPlace(ctx context.Context) bool {
	return a.req.OnePerLease &&
		(errors.Is(context.Cause(ctx), core.ErrSessionClosed) || errors.Is(context.Cause(a.q.s.Context()), core.ErrSessionClosed))
}
