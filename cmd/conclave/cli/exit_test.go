package cli

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		exit   int
		reason string
	}{
		{errors.New("anything"), ExitFailed, "failed"},
		{core.ErrInvalid, ExitUsage, "invalid_argument"},
		{core.ErrUnknownOutcome, ExitUnknown, "outcome_unknown"},
		{errors.Join(core.ErrUnknownOutcome, status.Error(codes.Unavailable, "")), ExitUnknown, "outcome_unknown"},
		{core.ErrSessionExpired, ExitNotAcquired, "session_expired"},
		{lock.ErrLocked, ExitNotAcquired, "locked"},
		{lock.ErrLimitMismatch, ExitNotAcquired, "conflict"},
		{rpctypes.ErrNoLeader, ExitUnavailable, "no_quorum"},
		{rpctypes.ErrTimeout, ExitUnavailable, "no_quorum"},
		{status.Error(codes.Unavailable, "refused"), ExitUnavailable, "no_quorum"},
		{rpctypes.ErrPermissionDenied, ExitPermission, "not_permitted"},
		{rpctypes.ErrUserEmpty, ExitPermission, "unauthenticated"},
		{rpctypes.ErrInvalidAuthToken, ExitPermission, "unauthenticated"},
		{rpctypes.ErrNoSpace, ExitNotAcquired, "no_space"},
		{recipe.Errorf(codes.FailedPrecondition, "not_owner", "x"), ExitNotAcquired, "not_owner"},
		{recipe.Errorf(codes.FailedPrecondition, "stale_token", "x"), ExitNotAcquired, "stale_token"},
		{recipe.Errorf(codes.FailedPrecondition, "session_expired", "x"), ExitNotAcquired, "session_expired"},
		{recipe.Errorf(codes.Aborted, "locked", "x"), ExitNotAcquired, "locked"},
		{recipe.Errorf(codes.Aborted, "full", "x"), ExitNotAcquired, "full"},
		{recipe.Errorf(codes.Aborted, "conflict", "x"), ExitNotAcquired, "conflict"},
		{recipe.Errorf(codes.ResourceExhausted, "limit_sessions", "x"), ExitNotAcquired, "limit_sessions"},
		{recipe.Errorf(codes.ResourceExhausted, "no_space", "x"), ExitNotAcquired, "no_space"},
		{recipe.Errorf(codes.InvalidArgument, "invalid_name", "x"), ExitUsage, "invalid_name"},
		{recipe.Errorf(codes.NotFound, "not_found", "x"), ExitNotFound, "not_found"},
		{recipe.Errorf(codes.PermissionDenied, "not_permitted", "x"), ExitPermission, "not_permitted"},
		{recipe.Errorf(codes.Unauthenticated, "unauthenticated", "x"), ExitPermission, "unauthenticated"},
		{recipe.Errorf(codes.Unavailable, "no_quorum", "x"), ExitUnavailable, "no_quorum"},
		{recipe.Errorf(codes.Unavailable, "recipe_restarting", "x"), ExitUnavailable, "recipe_restarting"},
		{recipe.Errorf(codes.Unknown, "outcome_unknown", "x"), ExitUnknown, "outcome_unknown"},
		{recipe.Errorf(codes.DeadlineExceeded, "timeout", "x"), ExitTimeout, "timeout"},
		{recipe.Errorf(codes.Internal, "bug", "x"), ExitFailed, "bug"},
	} {
		got := describe(fmt.Errorf("lock %q: %w", "x", c.err))
		if got.Exit != c.exit || got.Reason != c.reason {
			t.Errorf("%v: exit %d, %s; want %d, %s", c.err, got.Exit, got.Reason, c.exit, c.reason)
		}
	}
}

// The message of a host's error is said without the reason, which stands beside it.
func TestHostErrorInWords(t *testing.T) {
	t.Parallel()
	got := describe(fmt.Errorf("while it was called: %w", recipe.Errorf(codes.FailedPrecondition, "not_owner", "the session does not own %q", "x")))
	if got.Code != "failed_precondition" || got.Message != `the session does not own "x"` {
		t.Errorf("%+v", got)
	}
}

func TestDidYouMean(t *testing.T) {
	t.Parallel()
	known := []string{"shared", "slots", "ttl"}
	for typed, want := range map[string]string{
		"shard": `did you mean "--shared"?`,
		"Slot":  `did you mean "--slots"?`,
		"tll":   `did you mean "--ttl"?`,
		"zzzzz": "",
	} {
		if got := didYouMean(typed, known, "--"); got != want {
			t.Errorf("%s: %q, want %q", typed, got, want)
		}
	}
}
