package router

import (
	"context"
	"errors"
	"testing"
)

// TestEnding: whoever ends a call first is told as the cause, to those who asked
// for a channel before as to those who never did.
func TestEnding(t *testing.T) {
	router, caller := errors.New("the router"), errors.New("the caller")
	for _, asked := range []bool{false, true} {
		for _, want := range []error{router, caller} {
			below, cancel := context.WithCancelCause(context.WithValue(t.Context(), router, "kept"))
			e := &ending{Context: below}
			var ctx context.Context = e
			if asked {
				child, stop := context.WithCancel(e)
				t.Cleanup(stop)
				ctx = child
			}
			if ctx.Err() != nil || context.Cause(ctx) != nil || ctx.Value(router) != "kept" {
				t.Fatalf("before its end: %v, %v, %v", ctx.Err(), context.Cause(ctx), ctx.Value(router))
			}
			if errors.Is(want, router) {
				e.end(router)
				cancel(caller)
			} else {
				cancel(caller)
				e.end(router)
			}
			if !errors.Is(ctx.Err(), context.Canceled) || !errors.Is(context.Cause(ctx), want) || ctx.Value(router) != "kept" {
				t.Errorf("asked before: %t: %v, %v, %v; want %v", asked, ctx.Err(), context.Cause(ctx), ctx.Value(router), want)
			}
			select {
			case <-ctx.Done():
			default:
				t.Errorf("asked before: %t: its channel is open", asked)
			}
		}
	}
}
