package cli

import (
	"errors"
	"fmt"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

func TestExitCodes(t *testing.T) {
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
	} {
		got := describe(fmt.Errorf("lock %q: %w", "x", c.err))
		if got.Exit != c.exit || got.Reason != c.reason {
			t.Errorf("%v: exit %d, %s; want %d, %s", c.err, got.Exit, got.Reason, c.exit, c.reason)
		}
	}
}

func TestDidYouMean(t *testing.T) {
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
