// Package ownership holds the context type of sessions and ownerships.
//
// A process that was stopped or suspended runs its own code again before its
// timers fire. A context that ends only by a timer would still read as alive
// in that moment, when another process may already own the name. The Context
// here compares the clock whenever it is asked.
package ownership

import (
	"context"
	"time"
)

// Context ends when end is called, or when lapsed reports that it should have
// ended already. Its Done, Err and Value make every derived context a direct
// child of the inner one: children cost no goroutine, and context.Cause works.
type Context struct {
	context.Context // the inner, cancellable one
	cancel          context.CancelCauseFunc
	lapsed          func() error

	token int64 // 0 for a session's
	owner any
}

// NewContext returns a context with the values of base, which ignores base's
// end. The function lapsed is called by Done and Err, and returns the cause if
// the context should have ended by now; it must be cheap and must not use the
// context itself.
func NewContext(base context.Context, lapsed func() error) *Context {
	inner, cancel := context.WithCancelCause(context.WithoutCancel(base))
	return &Context{Context: inner, cancel: cancel, lapsed: lapsed}
}

// Check ends the context if it has lapsed, and returns its cause if it ended.
func (c *Context) Check() error {
	if c.Context.Err() == nil {
		if cause := c.lapsed(); cause != nil {
			c.cancel(cause)
		}
	}
	return context.Cause(c.Context)
}

// Inner returns the context that children derive from. Its Done and Err do not
// compare the clock: it is for registering with, not for asking.
func (c *Context) Inner() context.Context { return c.Context }

// End ends the context with cause; only the first end counts.
func (c *Context) End(cause error) { c.cancel(cause) }

// Done compares the clock and returns the channel that is closed at the end.
// Who already blocks on it is woken by whoever calls Check regularly.
func (c *Context) Done() <-chan struct{} {
	_ = c.Check()
	return c.Context.Done()
}

// Err compares the clock, and returns nil or context.Canceled.
func (c *Context) Err() error {
	_ = c.Check()
	return c.Context.Err()
}

// Deadline reports none: how long an ownership lasts depends on renewals to come.
func (c *Context) Deadline() (time.Time, bool) { return time.Time{}, false }

// Value returns the token and the owner, and what the base context has.
func (c *Context) Value(key any) any {
	switch key.(type) {
	case tokenKey:
		if c.token != 0 {
			return c.token
		}
	case ownerKey:
		if c.owner != nil {
			return c.owner
		}
	}
	return c.Context.Value(key)
}

type (
	tokenKey struct{}
	ownerKey struct{}
)

// Owns makes the context carry a fencing token and the ownership it belongs to.
// It is called before the context is given away.
func (c *Context) Owns(token int64, owner any) { c.token, c.owner = token, owner }

// Token returns the fencing token that ctx carries.
func Token(ctx context.Context) (int64, bool) {
	t, ok := ctx.Value(tokenKey{}).(int64)
	return t, ok
}

// Owner returns the ownership that ctx belongs to, or nil.
func Owner(ctx context.Context) any { return ctx.Value(ownerKey{}) }
