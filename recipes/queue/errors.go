package queue

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/queue"
)

// The reasons of this recipe, beside those of recipe.Status.
const (
	reasonFull  = "full"
	reasonEmpty = "empty"
	reasonStale = "stale_delivery"

	reasonInUse   = "conflict"
	reasonMissing = "not_found"
	reasonTimeout = "timeout"
)

// status is the error of a call.
func status(err error) error {
	switch {
	case err == nil, recipe.Reason(err) != "":
		return err
	case errors.Is(err, core.ErrSessionExpired), errors.Is(err, core.ErrSessionClosed), errors.Is(err, core.ErrUnknownOutcome):
		return recipe.Status(err)
	case errors.Is(err, queue.ErrStaleDelivery):
		return recipe.Errorf(codes.FailedPrecondition, reasonStale, "%s", err)
	case errors.Is(err, queue.ErrFull):
		return recipe.Errorf(codes.Aborted, reasonFull, "%s", err)
	case errors.Is(err, queue.ErrInUse):
		return recipe.Errorf(codes.Aborted, reasonInUse, "%s", err)
	case errors.Is(err, queue.ErrNoQueue):
		return recipe.Errorf(codes.NotFound, reasonMissing, "%s", err)
	case errors.Is(err, queue.ErrEmpty):
		return recipe.Errorf(codes.Aborted, reasonEmpty, "%s", err)
	default:
		return recipe.Status(err)
	}
}
