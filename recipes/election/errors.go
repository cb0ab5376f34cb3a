package election

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/internal/waitqueue"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// status is the error of a call.
func status(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, core.ErrSessionExpired), errors.Is(err, core.ErrSessionClosed), errors.Is(err, core.ErrUnknownOutcome):
		return recipe.Status(err)
	case errors.Is(err, election.ErrLed):
		return recipe.Errorf(codes.Aborted, service.ReasonLocked, "%s", led(err))
	case errors.Is(err, election.ErrSeatsMismatch), errors.Is(err, waitqueue.ErrOtherwise), errors.Is(err, election.ErrNotTransferred):
		return recipe.Errorf(codes.Aborted, service.ReasonConflict, "%s", err)
	case errors.Is(err, election.ErrNoLeader), errors.Is(err, election.ErrNoContender):
		return recipe.Errorf(codes.NotFound, service.ReasonNotFound, "%s", err)
	case errors.Is(err, core.ErrKeyDeleted):
		return recipe.Errorf(codes.Aborted, service.ReasonConflict, "an operator took the place in line away")
	default:
		return recipe.Status(err)
	}
}

// led says who leads where a campaign was tried once.
func led(err error) string {
	held, ok := errors.AsType[*waitqueue.HeldError](err)
	switch {
	case !ok:
		return err.Error()
	case held.Holder.Owner == "":
		return fmt.Sprintf("election %q: others stand for it", held.Name)
	default:
		return fmt.Sprintf("election %q: led by %s", held.Name, held.Holder.Owner)
	}
}

// ownerStatus is the error of a verb of the leader of an election.
func ownerStatus(name string, err error) error {
	return service.OwnerStatus(err, election.ErrLost, "lead", name, status)
}

// staleToken is the error of a request about a term that no leader has.
func staleToken(name string, token int64) error {
	return recipe.Errorf(codes.FailedPrecondition, service.ReasonStaleToken, "nobody leads %q with the token %d", name, token)
}
