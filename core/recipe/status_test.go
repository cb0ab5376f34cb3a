package recipe_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/keyspace"
)

func TestStatus(t *testing.T) {
	locked := recipe.Errorf(codes.Aborted, "locked", "held by %s", "host-3")
	for name, c := range map[string]struct {
		err     error
		code    codes.Code
		reason  string
		message string // its beginning
	}{
		"own":                {locked, codes.Aborted, "locked", "locked: held by host-3"},
		"own, wrapped":       {fmt.Errorf("lock %q: %w", "jobs", locked), codes.Aborted, "locked", "locked: held by host-3"},
		"own before others":  {fmt.Errorf("%w: %w", core.ErrUnknownOutcome, locked), codes.Aborted, "locked", "locked:"},
		"unknown outcome":    {fmt.Errorf("lock: %w: %w", core.ErrUnknownOutcome, context.DeadlineExceeded), codes.Unknown, "outcome_unknown", ""},
		"expired":            {fmt.Errorf("lock: %w", core.ErrSessionExpired), codes.FailedPrecondition, "session_expired", ""},
		"closed":             {fmt.Errorf("lock: %w", core.ErrSessionClosed), codes.Unavailable, "recipe_restarting", ""},
		"deleted":            {core.ErrKeyDeleted, codes.FailedPrecondition, "not_owner", ""},
		"released":           {core.ErrReleased, codes.FailedPrecondition, "not_owner", ""},
		"revoked":            {core.ErrRevoked, codes.FailedPrecondition, "not_owner", ""},
		"deadline":           {fmt.Errorf("wait: %w", context.DeadlineExceeded), codes.DeadlineExceeded, "", "the call's"},
		"cancelled":          {context.Canceled, codes.Canceled, "", "the call"},
		"etcd's deadline":    {rpctypes.ErrGRPCDeadlineExceeded, codes.DeadlineExceeded, "", "the call's"},
		"no leader":          {fmt.Errorf("read: %w", rpctypes.ErrNoLeader), codes.Unavailable, "no_quorum", ""},
		"no leader, as sent": {fmt.Errorf("read: %w", rpctypes.ErrGRPCNoLeader), codes.Unavailable, "no_quorum", ""},
		"timeout":            {rpctypes.ErrTimeout, codes.Unavailable, "no_quorum", ""},
		"lost connection":    {rpctypes.ErrTimeoutDueToConnectionLost, codes.Unavailable, "no_quorum", ""},
		"no connection":      {status.Error(codes.Unavailable, "dial tcp 10.1.2.3:2379: refused"), codes.Unavailable, "no_quorum", ""},
		"no space":           {rpctypes.ErrNoSpace, codes.ResourceExhausted, "no_space", ""},
		"no space, as sent":  {fmt.Errorf("put: %w", rpctypes.ErrGRPCNoSpace), codes.ResourceExhausted, "no_space", ""},
		"too many":           {rpctypes.ErrTooManyRequests, codes.ResourceExhausted, "limit_requests", ""},
		"too large":          {rpctypes.ErrRequestTooLarge, codes.ResourceExhausted, "limit_request_bytes", ""},
		"no login":           {rpctypes.ErrUserEmpty, codes.Unauthenticated, "unauthenticated", ""},
		"old token":          {rpctypes.ErrInvalidAuthToken, codes.Unauthenticated, "unauthenticated", ""},
		"refused":            {rpctypes.ErrPermissionDenied, codes.PermissionDenied, "not_permitted", ""},
		"lease is gone":      {rpctypes.ErrLeaseNotFound, codes.FailedPrecondition, "session_expired", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := recipe.Status(c.err)
			st, ok := status.FromError(got)
			if !ok || st.Code() != c.code || recipe.Reason(got) != c.reason {
				t.Fatalf("got %v, reason %q", got, recipe.Reason(got))
			}
			begin := c.message
			if begin == "" {
				begin = c.reason + ": "
			}
			if !strings.HasPrefix(st.Message(), begin) || strings.Contains(st.Message(), "10.1.2.3") {
				t.Errorf("message %q", st.Message())
			}
			if again := recipe.Status(got); again.Error() != got.Error() {
				t.Errorf("a second time: %v", again)
			}
		})
	}
}

func TestStatusOfInvalidNamesTheField(t *testing.T) {
	wrap := func(err error) error {
		return fmt.Errorf("lock %q: %w", "a/b", fmt.Errorf("%w: %w", core.ErrInvalid, err))
	}
	for want, err := range map[string]error{
		"invalid_name: name: is empty": wrap(keyspace.CheckName("name", "")),
		"invalid_purpose: purpose: has 300 bytes, the limit is 256": wrap(
			errors.Join(keyspace.CheckText("purpose", strings.Repeat("x", 300), 256), errors.New("limit: 0 is outside 1 to 9"))),
		"invalid_lock_delay: lock delay: 2h0m0s is outside 0s to 1h0m0s": wrap(errors.New("lock delay: 2h0m0s is outside 0s to 1h0m0s")),
		"invalid_limit: limit: 0 is outside 1 to 9; permits: 3 is outside 1 to 1": wrap(
			errors.Join(errors.New("limit: 0 is outside 1 to 9"), errors.New("permits: 3 is outside 1 to 1"))),
		"invalid_argument: only a write lock of one name can be downgraded": wrap(errors.New("only a write lock of one name can be downgraded")),
		"invalid_argument: Held by X: no":                                   wrap(errors.New("Held by X: no")),
		"invalid_argument: ":                                                wrap(errors.New("")),
		"invalid_argument: invalid argument":                                core.ErrInvalid,
	} {
		got := recipe.Status(err)
		why, _, _ := strings.Cut(want, ":")
		if st := status.Convert(got); st.Code() != codes.InvalidArgument || st.Message() != want || recipe.Reason(got) != why {
			t.Errorf("got %v, want %q", got, want)
		}
	}
}

// What the libraries really return is what Status has to know.
func TestStatusOfRealErrors(t *testing.T) {
	_, err := core.NewSession(within(t), etcd.Client(t), core.WithTTL(time.Millisecond))
	if got := recipe.Reason(recipe.Status(err)); got != "invalid_ttl" {
		t.Errorf("%v: reason %q", err, got)
	}
	_, err = core.NewSession(within(t), etcd.Client(t), core.WithNamespace("a/b"))
	if got := recipe.Reason(recipe.Status(err)); got != "invalid_namespace" {
		t.Errorf("%v: reason %q", err, got)
	}
	_, err = etcd.Client(t).Put(within(t), "k", "v", clientv3.WithLease(4711))
	if got := recipe.Reason(recipe.Status(err)); got != "session_expired" {
		t.Errorf("%v: reason %q", err, got)
	}
}

func TestStatusLeavesTheRestAlone(t *testing.T) {
	for _, err := range []error{
		errors.New("the disk of the recipe's own database is full"), rpctypes.ErrCompacted, status.Error(codes.NotFound, "no such thing"),
	} {
		if got := recipe.Status(err); !errors.Is(got, err) || got.Error() != err.Error() {
			t.Errorf("got %v, want %v", got, err)
		}
	}
	if got := recipe.Status(nil); got != nil {
		t.Errorf("got %v of nil", got)
	}
}
