package lock

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
)

// The reasons of this recipe, beside those of recipe.Status.
const (
	reasonLocked     = "locked"
	reasonConflict   = "conflict"
	reasonStaleToken = "stale_token"
)

// status is the error of a call.
func status(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, lock.ErrLocked):
		return recipe.Errorf(codes.Aborted, reasonLocked, "%s", err)
	case errors.Is(err, lock.ErrLimitMismatch), errors.Is(err, lock.ErrHeldOtherwise):
		return recipe.Errorf(codes.Aborted, reasonConflict, "%s", err)
	case errors.Is(err, core.ErrSessionExpired), errors.Is(err, core.ErrSessionClosed), errors.Is(err, core.ErrUnknownOutcome):
		return recipe.Status(err)
	case errors.Is(err, core.ErrKeyDeleted):
		return recipe.Errorf(codes.Aborted, reasonConflict, "an operator took the place in line away")
	default:
		return recipe.Status(err)
	}
}

// invalid is the error of an argument outside its limits; nil is nil.
func invalid(err error) error {
	if err == nil {
		return nil
	}
	return recipe.Status(fmt.Errorf("%w: %w", core.ErrInvalid, err))
}

// invalidf is invalid for one field.
func invalidf(field, format string, args ...any) error {
	return recipe.Errorf(codes.InvalidArgument, "invalid_"+field, field+": "+format, args...)
}
