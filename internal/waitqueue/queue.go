package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/ownership"
	"github.com/conclavehq/conclave/internal/watch"
)

// A Queue is one recipe's names as one session sees them. All users of a
// session share it, so that it is where goroutines of one session meet.
type Queue struct {
	s       *core.Session
	e       *engine.Engine
	recipe  string
	record  Record // what all records of the session have in common
	common  string // the same, encoded
	streams *watch.Streams
	home    *home // nil unless the session is borrowed

	owners ownership.Group // what the session owns through the queue
	late   latecomers

	mu    sync.Mutex
	names map[string]*name
}

type queueKey struct{ recipe string }

// For returns the session's queue of a recipe, the first part of whose keys is
// the recipe's name.
func For(s *core.Session, recipe string) *Queue {
	return s.Engine().Shared(queueKey{recipe}, func() any {
		q := &Queue{s: s, e: s.Engine(), recipe: recipe, names: make(map[string]*name),
			record:  recordFor(s),
			streams: s.Engine().Streams(), home: newHome(s.Engine(), s.Namespace(), recipe)}
		q.common = q.record.common()
		context.AfterFunc(q.e.Session(), q.owners.End)
		return q
	}).(*Queue)
}

// Close ends the watches that names keep after their use. The engine calls it.
func (q *Queue) Close() {
	q.late.close()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, n := range q.names {
		if n.dropped != nil {
			n.dropped.Stop()
		}
		n.close()
	}
}

func (q *Queue) keys(n string) keys {
	return keysOf(keyspace.Prefix(q.s.Namespace(), q.recipe, n))
}

// use returns the session's part of a name; every use is followed by a drop.
func (q *Queue) use(named string) *name {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := q.names[named]
	if n == nil {
		n = &name{keys: q.keys(named), name: named, q: q, tickets: make(map[string]*acquisition),
			watches: make(map[bucket]*ownWatch), lines: make(map[bucket]*line)}
		q.names[named] = n
	}
	n.users++
	if n.dropped != nil {
		n.dropped.Stop()
	}
	return n
}

func (q *Queue) drop(n *name) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n.users--
	switch {
	case n.users > 0:
	case n.dropped == nil:
		n.dropped = time.AfterFunc(linger, func() { q.close(n) })
	default:
		n.dropped.Reset(linger)
	}
}

// close ends what a name keeps after its use, unless it is in use again or was
// closed: a timer that was stopped may have fired before.
func (q *Queue) close(n *name) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n.users == 0 && q.names[n.name] == n {
		delete(q.names, n.name)
		n.close()
	}
}

// Acquire waits until what the request names is owned, until ctx ends, or until
// the session does. An error wraps ctx.Err() in the second case, and is then
// returned within about a second, the ticket gone or on its way out.
func (q *Queue) Acquire(ctx context.Context, r *Request) (*Owned, error) {
	return q.acquire(ctx, r, false)
}

// TryAcquire owns at once or returns a *HeldError. It then wrote nothing.
func (q *Queue) TryAcquire(ctx context.Context, r *Request) (*Owned, error) {
	return q.acquire(ctx, r, true)
}

func (q *Queue) acquire(ctx context.Context, r *Request, only bool) (*Owned, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	if r.Delay > 0 && q.e.Borrowed() {
		return nil, fmt.Errorf("%w: %w", core.ErrInvalid, engine.ErrNoDelay)
	}
	if !q.e.Enter() {
		return nil, q.ended()
	}
	defer q.e.Leave()
	if q.e.Session().Err() != nil { // the ownership will compare the clock itself
		return nil, q.ended()
	}
	ctx, cancel := q.untilSessionEnds(ctx)
	defer cancel()
	if ctx.Err() != nil {
		return nil, waitError(ctx)
	}
	if r.OnePerLease {
		return q.acquireOne(ctx, r, only)
	}
	names := make([]*name, len(r.Names))
	for i, named := range r.Names {
		names[i] = q.use(named)
	}
	a := q.newAcquisition(r, names)
	if err := a.grantShadow(ctx); err != nil {
		a.done()
		return nil, err
	}
	if only {
		return a.try(ctx)
	}
	return a.wait(ctx)
}

// done is called once, when the acquisition has ended for good.
func (a *acquisition) done() {
	for i := range a.parts {
		a.q.drop(a.parts[i].n)
	}
}

func (a *acquisition) grantShadow(ctx context.Context) (err error) {
	if a.req.Delay > 0 {
		a.shadow, err = a.q.e.DelayLease(ctx, a.req.Delay)
	}
	return err
}

// untilSessionEnds returns a ctx that ends with the session too, with its cause.
func (q *Queue) untilSessionEnds(ctx context.Context) (context.Context, func()) {
	j := q.e.Join(ctx, q.ended)
	return j, j.Release
}

// ended returns why the session ended.
func (q *Queue) ended() error {
	if err := context.Cause(q.s.Context()); err != nil {
		return err
	}
	return core.ErrSessionClosed
}

// waitError says why a wait ended: by the session, or by the caller's ctx,
// whose Err and cause are both in it.
func waitError(ctx context.Context) error {
	cause := context.Cause(ctx)
	if isSessionEnd(cause) || errors.Is(cause, ctx.Err()) {
		return cause
	}
	return errors.Join(ctx.Err(), cause)
}

// sessionError adds to the error of a call that ended with the session why the
// session ended: what etcd's client tells is only that the call was canceled.
func sessionError(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && isSessionEnd(cause) && !isSessionEnd(err) {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}

func isSessionEnd(err error) bool {
	return errors.Is(err, core.ErrSessionExpired) || errors.Is(err, core.ErrSessionClosed)
}
