package waitqueue

import (
	"context"
	"errors"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/engine"
)

// A flight acquires a name for all calls of one session that want it in the same
// way: the lease owns the name at most once. Unless its first request has the
// name, it has a goroutine of its own, so that the place in line stays when one of
// several callers goes.
type flight struct {
	q      *Queue
	n      *name
	req    Request
	only   bool                    // it does not wait
	cancel context.CancelCauseFunc // set before the caller who started it can leave

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
		f, as, err := q.board(n, r, only)
		switch {
		case err != nil:
			return nil, err
		case as == pilot && f.start(ctx):
			return f.owned, nil
		case as != aside:
			return f.wait(ctx)
		}
		select {
		case <-f.over:
		case <-ctx.Done():
			return nil, waitError(ctx)
		}
	}
}

// A passenger says how a caller stands to a flight.
type passenger int

const (
	aside  passenger = iota // waits for its end
	aboard                  // gets what it comes to
	pilot                   // the same, and starts it
)

// board joins the name's flight, or makes one.
func (q *Queue) board(n *name, r *Request, only bool) (f *flight, as passenger, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f = n.flight; f != nil {
		switch {
		case f.decided || f.ending || (f.only && !only):
			return f, aside, nil
		case !f.like(r):
			return nil, aside, ErrOtherwise
		case only && !f.only:
			return nil, aside, &HeldError{Name: r.Names[0]}
		}
		f.callers++
		return f, aboard, nil
	}
	f = &flight{q: q, n: n, req: *r, only: only, callers: 1, done: make(chan struct{}), over: make(chan struct{})}
	n.flight = f
	return f, pilot, nil
}

// start acquires for the caller who made the flight. It reports whether the first
// request has the name, as is usual; if not, the flight goes on by itself.
func (f *flight) start(ctx context.Context) bool {
	a := f.fresh()
	if a.beginBriefly(f.only) && a.first.Await(ctx) {
		if r, err := a.first.Wait(ctx); err == nil && r.Succeeded {
			f.land(a, a.tenureAt(r.Revision), nil)
			f.leave()
			return true
		}
	}
	own, cancel := context.WithCancelCause(context.Background())
	f.cancel = cancel
	f.q.e.Go(func(context.Context) { f.run(own, a) })
	return false
}

func (f *flight) like(r *Request) bool {
	return f.req.Mode == r.Mode && f.req.Permits == r.Permits && f.req.Limit == r.Limit && f.req.bucket() == r.bucket()
}

// wait returns what the flight came to, or that ctx ended first.
func (f *flight) wait(ctx context.Context) (*Owned, error) {
	caller, session, more := engine.Ends(ctx)
	select {
	case <-f.done:
		return f.owned, f.err
	case <-caller:
	case <-session:
	case <-more:
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

func (f *flight) run(ctx context.Context, a *acquisition) {
	defer f.cancel(nil)
	ctx, cancel := f.q.untilSessionEnds(ctx)
	defer cancel()
	a, t, err := f.obtain(ctx, a)
	var left <-chan struct{}
	if err != nil {
		left, err = a.fail(ctx, err)
	}
	f.land(a, t, err)
	if left != nil {
		<-left
	}
	f.leave()
}

// land tells the callers what the flight came to.
func (f *flight) land(a *acquisition, t *tenure, err error) {
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
}

// leave makes way for the next flight.
func (f *flight) leave() {
	f.n.mu.Lock()
	f.n.flight = nil
	f.n.mu.Unlock()
	close(f.over)
}

// obtain acquires, or goes on where the lease stands already. The acquisition
// that it returns is the one that ends with the tenure or the error.
func (f *flight) obtain(ctx context.Context, a *acquisition) (*acquisition, *tenure, error) {
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
