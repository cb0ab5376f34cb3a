package discovery

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/discovery"
)

// The reasons of this recipe, beside those of recipe.Status.
const (
	reasonStaleToken = "stale_token"
	reasonNotFound   = "not_found"
)

// status is the error of a call.
func status(err error) error {
	switch {
	case err == nil, recipe.Reason(err) != "":
		return recipe.Status(err)
	case errors.Is(err, core.ErrUnknownOutcome), errors.Is(err, core.ErrSessionExpired), errors.Is(err, core.ErrSessionClosed):
		return recipe.Status(err)
	case errors.Is(err, discovery.ErrStaleToken):
		return recipe.Errorf(codes.FailedPrecondition, reasonStaleToken, "%s", err)
	case errors.Is(err, discovery.ErrLost):
		return recipe.Errorf(codes.FailedPrecondition, recipe.ReasonNotOwner, "the session has not registered the instance, or somebody else did later")
	case errors.Is(err, discovery.ErrNoInstance):
		return recipe.Errorf(codes.NotFound, reasonNotFound, "%s is registered", err)
	case errors.Is(err, discovery.ErrClosed):
		return recipe.Status(core.ErrSessionClosed)
	}
	return recipe.Status(err)
}

// silent is the error of a call that etcd left unanswered.
func silent(err error) error {
	if errors.Is(err, core.ErrUnknownOutcome) {
		return recipe.Status(err)
	}
	return recipe.Errorf(codes.Unavailable, recipe.ReasonNoQuorum, "etcd does not answer")
}

// invalid is the error of one field.
func invalid(field, format string, args ...any) error {
	return recipe.Errorf(codes.InvalidArgument, "invalid_"+field, field+": "+format, args...)
}
