package commit

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrUnknown says that a request was sent and that nobody knows whether etcd
// applied it. It may also be applied later.
var ErrUnknown = errors.New("outcome unknown")

// ErrClosed says that the committer was closed before the request was sent.
var ErrClosed = errors.New("committer is closed")

// definite lists the codes with which etcd answers only before it applies
// anything. Whatever is not listed may have been applied: of the writes that
// ended in an error while a leader was killed 62 % had been.
func definite(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	switch codeOf(err) {
	case codes.NotFound, codes.InvalidArgument, codes.OutOfRange, codes.PermissionDenied,
		codes.Unauthenticated, codes.ResourceExhausted, codes.FailedPrecondition:
		return true
	default:
		return false
	}
}

func codeOf(err error) codes.Code {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code()
	}
	return status.Code(err)
}

// Classify wraps an error that leaves the outcome open as ErrUnknown.
func Classify(err error) error {
	if err == nil || definite(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknown, err)
}

func tooManyOps(err error) bool {
	return errors.Is(err, rpctypes.ErrTooManyOps) || errors.Is(err, rpctypes.ErrGRPCTooManyOps)
}
