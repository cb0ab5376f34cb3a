package router

import (
	"context"
	"sync"
)

// An ending is the context of a call, which the router can end. It registers with
// the transport's only when somebody asks for its channel, which short calls never
// do.
type ending struct {
	context.Context // the transport's

	mu     sync.Mutex
	cause  error           // why it was ended, before anybody asked
	made   context.Context // nil until somebody does
	cancel context.CancelCauseFunc
}

// end ends the context. The first cause counts, as everywhere.
func (e *ending) end(cause error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.made != nil:
		e.cancel(cause)
	case e.cause == nil && e.Context.Err() == nil:
		e.cause = cause
	}
}

// asked returns the context that answers, nil if the transport's does: as long as
// neither has been asked for its channel nor ended by the router.
func (e *ending) asked(must bool) context.Context {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.made != nil:
	case e.cause != nil: // which came first, also if the transport's has ended since
		e.made, e.cancel = context.WithCancelCause(context.WithoutCancel(e.Context))
		e.cancel(e.cause)
	case must:
		e.made, e.cancel = context.WithCancelCause(e.Context)
	}
	return e.made
}

// Done implements [context.Context].
func (e *ending) Done() <-chan struct{} { return e.asked(true).Done() }

// Err implements [context.Context].
func (e *ending) Err() error {
	if made := e.asked(false); made != nil {
		return made.Err()
	}
	return e.Context.Err()
}

// Value implements [context.Context]. Package context finds the cause by it.
func (e *ending) Value(key any) any {
	if made := e.asked(false); made != nil {
		return made.Value(key)
	}
	return e.Context.Value(key)
}
