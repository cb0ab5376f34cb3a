package engine

import (
	"context"
	"sync"
)

// A Joint is a context that ends with a caller's or with another one, such as the
// session's. It costs little until somebody asks for its channel, which a lock
// that is free never does: then it registers with both.
type Joint struct {
	context.Context // the caller's
	other           context.Context
	why             func() error
	as              func(cause error) error // nil: the caller's cause stands

	mu     sync.Mutex
	both   context.Context // nil until it is asked for
	cancel context.CancelCauseFunc
	stop   func()
	over   bool // Release was called
}

// Join returns a context that ends with ctx, or when the session does, with the
// cause that why then returns. Release ends it.
func (e *Engine) Join(ctx context.Context, why func() error) *Joint {
	return &Joint{Context: ctx, other: e.sess, why: why}
}

// Join returns a context that ends with ctx, with what as makes of its cause, or
// when other does, with the cause that why then returns. Release ends it.
func Join(ctx, other context.Context, as func(cause error) error, why func() error) *Joint {
	return &Joint{Context: ctx, other: other, as: as, why: why}
}

// Release ends the context, and its registration with the session.
func (j *Joint) Release() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.over = true
	if j.both != nil {
		j.stop()
		j.cancel(nil)
	}
}

// Done returns the channel that is closed when the caller's context or the
// session has ended.
func (j *Joint) Done() <-chan struct{} { return j.join().Done() }

// Err returns nil, or why the context ended.
func (j *Joint) Err() error {
	if both := j.joined(); both != nil {
		return both.Err()
	}
	if err := j.Context.Err(); err != nil {
		if j.as != nil { // whoever asks for the cause next has to find it
			return j.join().Err()
		}
		return err
	}
	if j.other.Err() == nil && !j.isOver() {
		return nil
	}
	return j.join().Err()
}

// Value returns the caller's values.
func (j *Joint) Value(key any) any {
	if both := j.joined(); both != nil {
		return both.Value(key)
	}
	return j.Context.Value(key)
}

func (j *Joint) joined() context.Context {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.both
}

func (j *Joint) isOver() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.over
}

func (j *Joint) join() context.Context {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.both != nil {
		return j.both
	}
	parent := j.Context
	if j.as != nil {
		parent = context.WithoutCancel(parent)
	}
	both, cancel := context.WithCancelCause(parent)
	j.both, j.cancel = both, cancel
	other := func() { cancel(j.why()) }
	caller := func() { cancel(j.as(context.Cause(j.Context))) }
	stopOther, stopCaller := context.AfterFunc(j.other, other), func() bool { return true }
	if j.as != nil {
		stopCaller = context.AfterFunc(j.Context, caller)
	}
	j.stop = func() { stopOther(); stopCaller() }
	switch { // the functions above run some time later
	case j.over:
		j.stop()
		cancel(nil)
	case j.as != nil && j.Context.Err() != nil:
		caller()
	case j.other.Err() != nil:
		other()
	}
	return both
}

// Ends returns the channels of which one is closed at ctx's end, without making
// a Joint register for it, nor one that it is made of. The first call of its Err
// afterwards finds out why.
func Ends(ctx context.Context) (caller, session, more <-chan struct{}) {
	j, ok := ctx.(*Joint)
	if !ok || j.joined() != nil {
		return ctx.Done(), nil, nil
	}
	if below, ok := j.Context.(*Joint); ok && below.joined() == nil {
		return below.Context.Done(), j.other.Done(), below.other.Done()
	}
	return j.Context.Done(), j.other.Done(), nil
}
