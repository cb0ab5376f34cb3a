package config

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
)

// The reasons of this recipe, beside those of recipe.Status.
const (
	reasonConflict = "conflict"
	reasonNotFound = "not_found"
	reasonDamaged  = "damaged"
)

// status is the error of a call.
func status(err error) error {
	switch {
	case err == nil, recipe.Reason(err) != "":
		return recipe.Status(err)
	case errors.Is(err, core.ErrUnknownOutcome):
		return recipe.Status(err)
	case errors.Is(err, config.ErrConflict):
		return recipe.Errorf(codes.Aborted, reasonConflict, "%s", err)
	case errors.Is(err, config.ErrSchemaChanged):
		return recipe.Errorf(codes.Aborted, reasonConflict, "%s, again and again; call again", err)
	case errors.Is(err, config.ErrNotFound):
		return recipe.Errorf(codes.NotFound, reasonNotFound, "%s", err)
	case errors.Is(err, config.ErrDamaged):
		return recipe.Errorf(codes.FailedPrecondition, reasonDamaged, "%s; publish a value over it", err)
	default:
		return recipe.Status(err)
	}
}

// silent is the error of a call that etcd left unanswered.
func silent(err error) error {
	if errors.Is(err, core.ErrUnknownOutcome) {
		return recipe.Status(err)
	}
	return recipe.Errorf(codes.Unavailable, recipe.ReasonNoQuorum, "etcd does not answer")
}

// wasDeleted is the error of a read that finds a tombstone.
func wasDeleted(v *config.Version) error {
	why := ""
	if v.Message != "" {
		why = fmt.Sprintf(" (%s)", v.Message)
	}
	return recipe.Errorf(codes.NotFound, reasonNotFound, "config %q: was deleted by %s at revision %d%s", v.Key, v.Author, v.Revision, why)
}

// invalid is the error of one field.
func invalid(field, format string, args ...any) error {
	return recipe.Errorf(codes.InvalidArgument, "invalid_"+field, field+": "+format, args...)
}
