package router

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/internal/reason"
)

// An Authorizer decides whether a call may go on. It is safe for concurrent use.
type Authorizer interface {
	// Authorize returns who calls m; empty: not known. ctx has the peer and all
	// metadata as they came, credentials among them. An error that is a gRPC
	// status is the answer to the call; another one is logged, and the answer
	// is PERMISSION_DENIED, not_permitted.
	Authorize(ctx context.Context, m *Method) (identity string, err error)
}

// authorize asks who calls and whether he may, and leaves of the metadata what a
// recipe may see.
func (r *Router) authorize(rt *route, next handler) handler {
	if r.trusted {
		return next
	}
	return func(c *call) error {
		if r.authorizer != nil {
			identity, err := r.authorizer.Authorize(c.ctx, rt.method)
			if err != nil {
				return r.refusal(c, err)
			}
			c.identity = identity
		}
		md := inbound(c.ctx)
		if c.identity != "" {
			md.Set(metaIdentity, c.identity)
		}
		c.setMetadata(md)
		return next(c)
	}
}

func (r *Router) refusal(c *call, err error) error {
	var coded interface{ GRPCStatus() *status.Status }
	if errors.As(err, &coded) || c.ctx.Err() != nil {
		return err
	}
	r.log.Error("authorisation failed", "method", c.route.method.FullName, "error", err)
	return reason.Errorf(codes.PermissionDenied, "not_permitted", "%s: it could not be found out whether the call is allowed", c.route.method.FullName)
}
