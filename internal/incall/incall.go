// Package incall lets those who serve a call read what its router knows of it,
// without the copies that reading gRPC metadata makes.
package incall

import (
	"context"

	"google.golang.org/grpc/metadata"
)

// A Call is a call that is being served.
type Call interface {
	// Metadata returns the incoming metadata as the service sees them, which
	// nobody changes; nil: the router does not know them.
	Metadata() metadata.MD
}

type key struct{}

// With returns a context of a call.
func With(ctx context.Context, c Call) context.Context { return context.WithValue(ctx, key{}, c) }

// From returns the call that a context belongs to, nil if it belongs to none.
func From(ctx context.Context) Call {
	c, _ := ctx.Value(key{}).(Call)
	return c
}

// Metadata returns the incoming metadata of the call that a context belongs to, nil
// if there are none. They are not the caller's to change.
func Metadata(ctx context.Context) metadata.MD {
	if c := From(ctx); c != nil {
		if md := c.Metadata(); md != nil {
			return md
		}
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return md
}

// Value returns the first value of a key of the incoming metadata, "" if there is
// none. The key is in lower case.
func Value(ctx context.Context, name string) string {
	if v := Metadata(ctx)[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}
