package service

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
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

// Time is t in a message, nil if it is not known.
func Time(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// First returns at most n of all.
func First[T any](all []T, n int) []T { return all[:min(n, len(all))] }
