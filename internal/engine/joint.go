package engine

import (
	"context"
	"sync"
)

// A Joint is a context that ends with a caller's or with the session. It costs
// little until somebody asks for its channel, which a lock that is free never
// does: then it registers with both.
type Joint struct {
	context.Context // the caller's
	e               *Engine
	why             func() error

	mu     sync.Mutex
	both   context.Context // nil until it is asked for
	cancel context.CancelCauseFunc
	stop   func() bool
	over   bool // Release was called
}

// Join returns a context that ends with ctx, or when the session does, with the
// cause that why then returns. Release ends it.
func (e *Engine) Join(ctx context.Context, why func() error) *Joint {
	return &Joint{Context: ctx, e: e, why: why}
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
		return err
	}
	if j.e.sess.Err() == nil && !j.isOver() {
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
	both, cancel := context.WithCancelCause(j.Context)
	j.both, j.cancel = both, cancel
	j.stop = context.AfterFunc(j.e.sess, func() { cancel(j.why()) })
	switch {
	case j.over:
		j.stop()
		cancel(nil)
	case j.e.sess.Err() != nil: // the function above runs some time later
		cancel(j.why())
	}
	return both
}

// Ends returns the channels of which one is closed at ctx's end, without making
// a Joint register for it. The first call of its Err afterwards finds out why.
func Ends(ctx context.Context) (caller, session <-chan struct{}) {
	if j, ok := ctx.(*Joint); ok && j.joined() == nil {
		return j.Context.Done(), j.e.sess.Done()
	}
	return ctx.Done(), nil
}
