package servicetest

import (
	"context"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
)

// Calling returns the id of a session as a host tells its caller, and the context
// of the caller's calls, as the host's router makes it. Whoever holds s keeps the
// lease alive.
func Calling(tb testing.TB, s *core.Session) (id string, ctx context.Context) {
	tb.Helper()
	c := recipe.Caller{Session: "session-" + s.Owner(), Lease: s.Lease(), TTL: s.TTL(), Owner: s.Owner(), Namespace: s.Namespace()}
	return c.Session, metadata.NewOutgoingContext(Context(tb), c.Metadata())
}
