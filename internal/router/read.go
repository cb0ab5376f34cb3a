package router

import (
	"context"
	"time"
)

// limitRead bounds the time of unary reads: nobody waits in one on purpose, as in
// an Acquire, and a caller without a deadline would leave it behind.
func (r *Router) limitRead(rt *route, next handler) handler {
	if r.maxRead == 0 || rt.method.class != reads {
		return next
	}
	return func(c *call) error {
		end := time.Now().Add(r.maxRead)
		if sooner, ok := c.ctx.Deadline(); ok && !sooner.After(end) {
			return next(c)
		}
		defer time.AfterFunc(r.maxRead, func() { c.own.end(errTooLong) }).Stop()
		c.ctx = timed{c.ctx, end}
		return next(c)
	}
}

// timed is the context of a call that the router itself ends at a deadline. Short
// reads show in profiles what one of package context costs them.
type timed struct {
	context.Context
	end time.Time
}

// Deadline implements [context.Context].
func (t timed) Deadline() (time.Time, bool) { return t.end, true }
