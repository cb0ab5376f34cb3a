package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/watch"
)

const (
	// firstLook is when a waiter looks at the line for the first time. A
	// handover needs no look, so short waits cost neither a read nor a watch:
	// among 256 sessions that was worth a fifth of the rate. Only recovery from
	// a dead owner needs it, and that waits for the TTL anyway.
	firstLook = time.Second
	// ownEventGrace is the pause between a target's end and the look: in a
	// plain handover the waiter's own event comes from the same revision.
	ownEventGrace = 10 * time.Millisecond
	// abandonWait bounds how long a cancelled wait stays for the confirmation
	// that its ticket is gone.
	abandonWait = 500 * time.Millisecond
)

var (
	errSeen = errors.New("an event came first")
)

// A HeldError says who is in the way of a try.
type HeldError struct {
	Name   string
	Holder Record // the zero Record if nobody owns the name, but somebody waits
}

// Error names the owner and what it is doing.
func (e *HeldError) Error() string {
	if e.Holder.Owner == "" {
		return "held by others or waited for"
	}
	if e.Holder.Purpose != "" {
		return fmt.Sprintf("held by %s (%s)", e.Holder.Owner, e.Holder.Purpose)
	}
	return "held by " + e.Holder.Owner
}

// try owns at once or returns a *HeldError.
func (a *acquisition) try(ctx context.Context) (*Owned, error) {
	if l := a.localLine(); l != nil && !l.tryJoin(ctx, a) {
		a.done()
		if ctx.Err() != nil {
			return nil, waitError(ctx)
		}
		return nil, &HeldError{Name: a.req.Names[0], Holder: l.holder()}
	}
	if err := a.afterReleases(ctx); err != nil {
		return a.conclude(ctx, nil, err)
	}
	t, err := a.tryOnce(ctx, true)
	return a.conclude(ctx, t, err)
}

// wait owns, sooner or later.
func (a *acquisition) wait(ctx context.Context) (*Owned, error) {
	if l := a.localLine(); l != nil && !l.join(a) {
		return a.waitLocally(ctx, l)
	}
	t, err := a.takeOrWait(ctx)
	return a.conclude(ctx, t, err)
}

// conclude makes the tenure an ownership, or gives up what may be left of it.
func (a *acquisition) conclude(ctx context.Context, t *tenure, err error) (*Owned, error) {
	if err == nil {
		return t.newOwned(ctx, a), nil
	}
	_, err = a.fail(ctx, err)
	return nil, err
}

// fail gives up what may be left of an acquisition that ended with err. It
// returns the error for the caller, and a channel that is closed when nothing is
// left, nil if that is so already.
func (a *acquisition) fail(ctx context.Context, err error) (<-chan struct{}, error) {
	if errors.Is(err, errGone) {
		a.entered = a.req.Mode == Set // whose other tickets may still stand
		if a.q.e.LeaseGone(ctx) {
			err = a.q.ended()
		}
	}
	left := a.abandon(ctx)
	switch {
	case errors.Is(err, commit.ErrClosed):
		return left, a.q.ended()
	case errors.Is(err, rpctypes.ErrLeaseNotFound) && a.q.e.LeaseGone(ctx):
		return left, a.q.ended()
	case ctx.Err() != nil: // perhaps while etcd was asked about the lease
		return left, waitError(ctx)
	}
	return left, err
}

// takeOrWait takes the names at once or waits in line for them.
func (a *acquisition) takeOrWait(ctx context.Context) (*tenure, error) {
	if a.first != nil || !a.warm() {
		t, err := a.tryOnce(ctx, false)
		var held *HeldError
		if err == nil || (!errors.As(err, &held) && !passing(err)) {
			return t, err
		}
	}
	for i := range a.parts {
		a.parts[i].n.expect(a, a.parts[i].ticket)
	}
	t, err := a.enter(ctx)
	if t != nil || err != nil {
		return t, err
	}
	return a.waitInLine(ctx)
}

// warm tells whether the watches on a's own tickets are open already.
func (a *acquisition) warm() bool {
	for i := range a.parts {
		if !a.parts[i].n.watched(a.bucket()) {
			return false
		}
	}
	return true
}

// enter sends Enter until its outcome is known. It returns a tenure, or neither
// a tenure nor an error when a is in line.
func (a *acquisition) enter(ctx context.Context) (*tenure, error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		t, settled, err := a.enterOnce(ctx)
		if settled || t != nil || (err != nil && !passing(err)) {
			return t, err
		}
		if err == nil {
			continue // on the new view of the name
		}
		a.q.e.Log().Debug("enter the line", "error", err)
		if err := sleep(ctx, pause/2+rand.N(pause/2)); err != nil {
			return nil, err
		}
	}
}

// enterOnce sends Enter once; settled says that a is in line or soon knows.
func (a *acquisition) enterOnce(ctx context.Context) (t *tenure, settled bool, err error) {
	if err := a.watchAll(ctx); err != nil {
		return nil, false, err
	}
	if a.req.Mode == Permits && a.parts[0].n.sees().limit != a.req.Limit {
		if err := a.inspect(ctx); err != nil {
			return nil, false, err
		}
	}
	if a.set != "" && a.anyStale() { // an Enter of a set does not take limits away
		t, err := a.tryOnce(ctx, true)
		if _, held := errors.AsType[*HeldError](err); !held {
			return t, false, err
		}
	}
	if err := a.q.comeHome(ctx); err != nil {
		return nil, false, err
	}
	brief := a.queues()
	txn := a.enterTxn
	if brief {
		txn = a.queueTxn
	}
	r, err := a.doUnlessSeen(ctx, txn())
	switch {
	case errors.Is(err, errSeen):
		return nil, true, nil // it was applied; waitInLine takes what was seen
	case err != nil:
		a.failed(err)
		return nil, false, err
	case brief:
		return nil, a.readQueued(r), nil
	}
	t, settled, err = a.readEntered(r)
	switch {
	case errors.Is(err, errMoved):
		err = nil
	case t == nil && !settled && err == nil:
		err = a.inspect(ctx) // a limit was in the way
	}
	return t, settled, err
}

// passing tells whether an error may go away by itself: nothing is wrong with
// the request.
func passing(err error) bool {
	if lost, ok := errors.AsType[*watch.LostError](err); ok {
		return lost.Reason != watch.Auth && lost.Reason != watch.Closed
	}
	if errors.Is(err, commit.ErrUnknown) {
		return true
	}
	c := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		c = e.Code() // which has no gRPC status
	}
	return c == codes.Unavailable || c == codes.DeadlineExceeded
}

// doUnlessSeen sends t, and stops waiting for the reply when the own ticket's
// event tells more than the reply would.
func (a *acquisition) doUnlessSeen(ctx context.Context, t commit.Txn) (commit.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a.mu.Lock()
	a.cut = cancel
	seen := a.seen.granted != nil || a.seen.gone
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		a.cut = nil
		a.mu.Unlock()
	}()
	if seen {
		return commit.Result{}, errSeen
	}
	return a.q.e.Do(ctx, t)
}

// readEntered reads Enter's reply: a owns, is in line, or (neither) met a limit.
func (a *acquisition) readEntered(r commit.Result) (t *tenure, inLine bool, err error) {
	if !r.Succeeded {
		if a.stayedAway(r.Responses) {
			return nil, false, errMoved
		}
		return nil, false, errGone // a void record stands: it ended before
	}
	a.arrived(r)
	branch := r.Nested(0)
	if branch.Succeeded {
		return a.tenureAt(r.Revision), false, nil
	}
	earlier := branch.Nested(0)
	if earlier.Succeeded {
		kv := kv(earlier, 0)
		return a.tenureAt(kv.ModRevision), false, nil
	}
	line := earlier.Nested(0)
	if !line.Succeeded && a.set != "" {
		if set := kv(line, len(a.parts)); set != nil {
			return nil, false, a.brokenSet(set)
		}
	}
	if line.Succeeded {
		for i := range a.parts {
			a.parts[i].create = r.Revision
		}
		a.entered = true
		return nil, true, nil
	}
	if a.req.OnePerLease {
		return a.readMine(line)
	}
	if first := kv(line, 0); first != nil {
		return a.standing(first), true, nil
	}
	for i := range a.parts {
		if kv(line, i) != nil { // of a set that entered before, and lost the first one by hand
			return nil, false, wasDeleted()
		}
	}
	return nil, false, nil
}

// standing reads a's own ticket: a tenure if it was granted.
func (a *acquisition) standing(ticket *mvccpb.KeyValue) *tenure {
	for i := range a.parts {
		a.parts[i].create = ticket.CreateRevision
	}
	a.entered = true
	if ticket.Version == waiting || a.req.Mode == Set {
		return nil
	}
	return a.tenureOf(ticket)
}

func (a *acquisition) watchAll(ctx context.Context) error {
	for i := range a.parts {
		if err := a.parts[i].n.watchOwn(ctx, a.bucket()); err != nil {
			return err
		}
	}
	return nil
}

// waitInLine waits for the handover, and looks when something happened.
func (a *acquisition) waitInLine(ctx context.Context) (*tenure, error) {
	w := waiter{a: a, timer: time.NewTimer(firstLook)}
	if a.req.Permits > 1 || a.req.Mode == Set {
		w.timer.Reset(0) // is served by claiming, for which it has to know the line
	}
	defer w.stop()
	for {
		select {
		case <-a.signal:
		case <-w.timer.C:
			a.see(func(s *sightings) { s.look = true })
		case <-ctx.Done():
			return nil, waitError(ctx)
		}
		if t, err := w.wake(ctx, a.take()); t != nil || err != nil {
			return t, err
		}
	}
}

// errGone says that the acquisition ended without an ownership, its keys gone.
var errGone = errors.New("acquisition ended")

// wasDeleted is the error for a ticket that somebody deleted.
func wasDeleted() error { return fmt.Errorf("%w: %w", errGone, core.ErrKeyDeleted) }

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return waitError(ctx)
	}
}
