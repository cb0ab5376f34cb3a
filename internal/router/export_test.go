package router

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
)

// InFlight returns how many calls the limits count.
func InFlight(r *Router) int { return int(r.limits.calls.Load()) }

// Hidden reports whether metadata of that name stays on its side of the router.
var Hidden = struct{ Inbound, Outbound func(key string) bool }{hiddenInbound, hiddenOutbound}

// SessionFields returns the reader of a request's session and namespace.
func SessionFields(request protoreflect.MessageDescriptor) func([]byte) (id, namespace string, err error) {
	f, err := newSessionFields(request, &recipev1.Method{SessionField: "session_id"})
	if err != nil {
		panic(err)
	}
	return f.read
}
