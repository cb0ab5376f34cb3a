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
		if end, ok := c.ctx.Deadline(); ok && time.Until(end) <= r.maxRead {
			return next(c)
		}
		ctx, cancel := context.WithTimeoutCause(c.ctx, r.maxRead, errTooLong)
		defer cancel()
		c.ctx = ctx
		return next(c)
	}
}
