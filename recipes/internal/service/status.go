package service

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/waitqueue"
)

// The reasons of names with a line, beside those of recipe.Status.
const (
	ReasonLocked     = "locked"
	ReasonConflict   = "conflict"
	ReasonStaleToken = "stale_token"
	ReasonNotFound   = "not_found"
)

// Invalid is the error of an argument outside its limits; nil is nil.
func Invalid(err error) error {
	if err == nil {
		return nil
	}
	return recipe.Status(fmt.Errorf("%w: %w", core.ErrInvalid, err))
}

// Invalidf is Invalid for one field.
func Invalidf(field, format string, args ...any) error {
	return recipe.Errorf(codes.InvalidArgument, "invalid_"+field, field+": "+format, args...)
}

// OwnerStatus is the error of a verb on what the session owns of a name, in words
// that say what is so now; does is what an owner does with the name. lost is the
// library's own error of an ownership that is over, and status makes the status of
// all others.
func OwnerStatus(err, lost error, does, name string, status func(error) error) error {
	switch {
	case errors.Is(err, waitqueue.ErrStale):
		_, now, _ := strings.Cut(err.Error(), waitqueue.ErrStale.Error()+": ")
		return recipe.Errorf(codes.FailedPrecondition, ReasonStaleToken, "the session %ss %q by another token: %s", does, name, now)
	case !errors.Is(err, lost), errors.Is(err, core.ErrSessionExpired), errors.Is(err, core.ErrSessionClosed),
		errors.Is(err, core.ErrUnknownOutcome):
		return status(err)
	case errors.Is(err, core.ErrRevoked):
		return recipe.Errorf(codes.FailedPrecondition, recipe.ReasonNotOwner, "the session does not %s %q any more: it was forced out", does, name)
	default:
		return recipe.Errorf(codes.FailedPrecondition, recipe.ReasonNotOwner, "the session does not %s %q", does, name)
	}
}

// Time is t in a message, nil if it is not known.
func Time(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// First returns at most n of all.
func First[T any](all []T, n int) []T { return all[:min(n, len(all))] }
