package session

import (
	"context"
	"errors"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/commit"
)

func expired(format string, args ...any) error {
	return recipe.Errorf(codes.FailedPrecondition, "session_expired", format, args...)
}

func invalid(reason, format string, args ...any) error {
	return recipe.Errorf(codes.InvalidArgument, reason, format, args...)
}

func conflict(format string, args ...any) error {
	return recipe.Errorf(codes.Aborted, "conflict", format, args...)
}

// readFailed is the error of a call whose read etcd did not answer.
func readFailed(ctx context.Context, err error) error {
	if err := refused(ctx, err); err != nil {
		return err
	}
	return noQuorum()
}

func noQuorum() error {
	// Not in etcd's own words: they hold its addresses.
	return recipe.Errorf(codes.Unavailable, "no_quorum", "etcd does not answer")
}

// repeatable is writeFailed for what may be asked for again without a look, since
// nothing is owned by it: an opening and a renewal.
func repeatable(ctx context.Context, err error) error {
	err = writeFailed(ctx, err)
	if recipe.Reason(err) == "outcome_unknown" {
		return noQuorum()
	}
	return err
}

// writeFailed is the error of a call whose write may have been applied.
func writeFailed(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return expired("the session has ended")
	case errors.Is(err, rpctypes.ErrNoLeader), errors.Is(err, rpctypes.ErrStopped):
		return noQuorum()
	}
	if err := refused(ctx, err); err != nil {
		return err
	}
	if errors.Is(commit.Classify(err), commit.ErrUnknown) {
		return recipe.Errorf(codes.Unknown, "outcome_unknown", "etcd did not say whether it did it; call again")
	}
	return recipe.Errorf(codes.Internal, "internal", "etcd refuses it: %v", err)
}

// refused returns the error if its cause is plain, else nil.
func refused(ctx context.Context, err error) error {
	code := status.Code(err)
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = e.Code()
	}
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, rpctypes.ErrNoSpace):
		return recipe.Errorf(codes.ResourceExhausted, "no_space", "etcd's database has reached its quota")
	case code == codes.Unauthenticated, code == codes.PermissionDenied, errors.Is(err, rpctypes.ErrUserEmpty):
		return recipe.Errorf(codes.Unauthenticated, "unauthenticated", "etcd asks the host for a login that it does not have: %v", err)
	default:
		return nil
	}
}
