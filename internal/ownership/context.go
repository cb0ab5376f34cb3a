// Package ownership holds the context type of sessions and ownerships.
//
// A process that was stopped or suspended runs its own code again before its
// timers fire. A context that ends only by a timer would still read as alive
// in that moment, when another process may already own the name. The Context
// here compares the clock whenever it is asked.
package ownership

import (
	"context"
	"sync"
	"time"
)

// Context ends when End is called, or when its judge says that it should have
// ended already. Every derived context is a direct child of an inner one, which
// is made when it is asked for, since most ownerships end before: children cost
// no goroutine, and context.Cause works.
type Context struct {
	base  context.Context
	judge Judge

	mu     sync.Mutex
	cause  error           // why it ended
	inner  context.Context // nil until somebody needs it
	cancel context.CancelCauseFunc

	token int64 // 0 for a session's
	owner any

	next, prev *Context // in its Group, whose lock guards them
}

// A Judge knows whether what a context stands for still lasts.
type Judge interface {
	// Lapsed returns the cause if the context should have ended by now. It must be
	// cheap and must not use the context itself.
	Lapsed() error
}

// A JudgeFunc is a function as a Judge.
type JudgeFunc func() error

// Lapsed calls the function.
func (f JudgeFunc) Lapsed() error { return f() }

// NewContext returns a context with the values of base, which ignores base's
// end. Done and Err ask lapsed.
func NewContext(base context.Context, lapsed JudgeFunc) *Context {
	c := new(Context)
	c.Init(base, lapsed)
	return c
}

// Init makes a zero Context what NewContext returns. It is for contexts that are
// part of a larger value.
func (c *Context) Init(base context.Context, judge Judge) { c.base, c.judge = base, judge }

// Check ends the context if it has lapsed, and returns its cause if it ended.
func (c *Context) Check() error {
	if cause := c.ended(); cause != nil {
		return cause
	}
	if cause := c.judge.Lapsed(); cause != nil {
		c.End(cause)
		return c.ended() // perhaps it had ended with another cause meanwhile
	}
	return nil
}

func (c *Context) ended() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// Inner returns the context that children derive from. Its Done and Err do not
// compare the clock: it is for registering with, not for asking.
func (c *Context) Inner() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.cancel = context.WithCancelCause(context.WithoutCancel(c.base))
		if c.cause != nil {
			c.cancel(c.cause)
		}
	}
	return c.inner
}

// End ends the context with cause; only the first end counts.
func (c *Context) End(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause = cause
	if c.cancel != nil {
		c.cancel(cause)
	}
}

// Done compares the clock and returns the channel that is closed at the end.
// Who already blocks on it is woken by whoever calls Check regularly.
func (c *Context) Done() <-chan struct{} {
	_ = c.Check()
	return c.Inner().Done()
}

// Err compares the clock, and returns nil or context.Canceled.
func (c *Context) Err() error {
	if c.Check() != nil {
		return context.Canceled
	}
	return nil
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
	return c.Inner().Value(key)
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
