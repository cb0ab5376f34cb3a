package incall_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/internal/incall"
)

type call struct{ md metadata.MD }

func (c call) Metadata() metadata.MD { return c.md }

// What the router knows counts; what came over the wire only where it knows nothing.
func TestValue(t *testing.T) {
	wire := metadata.NewIncomingContext(context.Background(), metadata.Pairs("k", "wire", "other", "wire"))
	for _, c := range []struct {
		what string
		ctx  context.Context
		want string
	}{
		{"no call", context.Background(), ""},
		{"a call of no router", wire, "wire"},
		{"a router that knows nothing", incall.With(wire, call{}), "wire"},
		{"a router that knows", incall.With(wire, call{metadata.Pairs("k", "known")}), "known"},
		{"a router that knows of none", incall.With(wire, call{metadata.MD{}}), ""},
	} {
		if got := incall.Value(c.ctx, "k"); got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, got, c.want)
		}
	}
	if incall.From(wire) != nil || incall.From(incall.With(wire, call{})) == nil {
		t.Error("a context tells of a call that there is not, or not of the one that there is")
	}
}
