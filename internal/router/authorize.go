package router

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
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
			identity, err := r.authorizer.Authorize(c.shown(), rt.method)
			if err != nil {
				return r.refusal(c, err)
			}
			c.identity = identity
		}
		c.clean()
		return next(c)
	}
}

// shown returns a context with what the caller shows of who he is.
func (c *call) shown() context.Context {
	if c.in != nil {
		return c.in.base // a pipeline's caller shows it once
	}
	return c.ctx
}

// clean leaves of the metadata what a recipe may see, and adds who calls.
func (c *call) clean() {
	md := c.md
	if c.in == nil {
		md = inbound(c.ctx)
	} else if c.identity == "" && len(md) == 0 {
		c.md = c.in.none // as in its context
		return
	}
	if c.identity != "" {
		if md == nil {
			md = make(metadata.MD, 1)
		}
		md.Set(metaIdentity, c.identity)
	}
	c.setMetadata(md)
}

func (r *Router) refusal(c *call, err error) error {
	var coded interface{ GRPCStatus() *status.Status }
	if errors.As(err, &coded) || c.ctx.Err() != nil {
		return err
	}
	r.log.Error("authorisation failed", "method", c.route.method.FullName, "error", err)
	return reason.Errorf(codes.PermissionDenied, "not_permitted", "%s: it could not be found out whether the call is allowed", c.route.method.FullName)
}
