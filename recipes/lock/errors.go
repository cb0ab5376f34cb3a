package lock

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// status is the error of a call.
func status(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, lock.ErrLocked):
		return recipe.Errorf(codes.Aborted, service.ReasonLocked, "%s", err)
	case errors.Is(err, lock.ErrLimitMismatch), errors.Is(err, lock.ErrHeldOtherwise):
		return recipe.Errorf(codes.Aborted, service.ReasonConflict, "%s", err)
	case errors.Is(err, core.ErrSessionExpired), errors.Is(err, core.ErrSessionClosed), errors.Is(err, core.ErrUnknownOutcome):
		return recipe.Status(err)
	case errors.Is(err, core.ErrKeyDeleted):
		return recipe.Errorf(codes.Aborted, service.ReasonConflict, "an operator took the place in line away")
	default:
		return recipe.Status(err)
	}
}
