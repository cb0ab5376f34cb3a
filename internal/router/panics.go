package router

import (
	"fmt"
	"runtime/debug"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/internal/reason"
)

// recoverPanic answers a call whose service panicked: the host and everybody
// else's calls live on. It cannot catch a goroutine that the service started.
func (r *Router) recoverPanic(_ *route, next handler) handler {
	return func(c *call) (err error) {
		defer func() {
			p := recover()
			if p == nil {
				return
			}
			method := "unknown"
			if c.route.method != nil {
				method = c.route.method.FullName
			}
			r.metrics.panicked(c.route)
			r.log.Error("recipe panicked", "method", method, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = reason.Errorf(codes.Internal, "recipe_failed", "the recipe failed; the host's log has the reason")
		}()
		return next(c)
	}
}
