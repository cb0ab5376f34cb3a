package barrier

import (
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// The reasons of this recipe, beside those of recipe.Status and of names with a
// line.
const (
	reasonFull     = "full"
	reasonBroken   = "broken"
	reasonNotReady = "not_ready"
)

// status is the error of a call.
func status(err error) error {
	switch {
	case err == nil, recipe.Reason(err) != "":
		return err
	case errors.Is(err, core.ErrSessionExpired), errors.Is(err, core.ErrSessionClosed), errors.Is(err, core.ErrUnknownOutcome):
		return recipe.Status(err)
	case errors.Is(err, barrier.ErrBroken):
		return recipe.Errorf(codes.Aborted, reasonBroken, "%s", err)
	case errors.Is(err, barrier.ErrFull):
		return recipe.Errorf(codes.Aborted, reasonFull, "%s", err)
	case errors.Is(err, barrier.ErrPartiesMismatch), errors.Is(err, barrier.ErrCounting):
		return recipe.Errorf(codes.Aborted, service.ReasonConflict, "%s", err)
	case errors.Is(err, core.ErrKeyDeleted):
		return recipe.Errorf(codes.Aborted, service.ReasonConflict, "an operator deleted what stood for it: %s", err)
	default:
		return recipe.Status(err)
	}
}

// waited tells whether a call ended because it waited as long as it may.
func waited(err error) bool {
	return errors.Is(err, service.ErrWaited) && !errors.Is(err, core.ErrUnknownOutcome)
}

// notReady is the error of a wait for others.
func notReady(kind, name string, wait time.Duration) error {
	return recipe.Errorf(codes.Aborted, reasonNotReady, "%s %q: the others were not there within %v", kind, name, wait)
}
