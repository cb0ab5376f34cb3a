package admin

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/catalog"
	"github.com/conclavehq/conclave/plugins/launcher"
)

var (
	errStarting = errors.New("the host is starting")
	errBusy     = errors.New("another call is changing it")
	errFailed   = errors.New("it does not start")
	errRefused  = errors.New("it is refused")
	errName     = errors.New("is another plugin")

	errUnrecorded = errors.New("could not be recorded")
)

// What Verify says of a plugin, and Add of a package.
const (
	reasonNotAdded    = "not_added"
	reasonChanged     = "changed"
	reasonMissing     = "missing"
	reasonManifest    = "invalid_manifest"
	reasonSignature   = "invalid_signature"
	reasonUnsupported = "unsupported"
	reasonPackage     = "invalid_package"
	reasonFailed      = "plugin_failed"
	reasonRefused     = "plugin_refused"
)

// reasonOf says in a word what is wrong with a plugin's files; empty: something else.
func reasonOf(err error) string {
	for _, known := range []struct {
		is     error
		reason string
	}{
		{catalog.ErrNotAdded, reasonNotAdded}, {catalog.ErrChanged, reasonChanged}, {catalog.ErrMissing, reasonMissing},
		{catalog.ErrManifest, reasonManifest}, {catalog.ErrTooLarge, reasonChanged}, {launcher.ErrSpec, reasonManifest},
		{catalog.ErrSignature, reasonSignature}, {catalog.ErrUnsupported, reasonUnsupported}, {launcher.ErrProtocol, reasonUnsupported},
	} {
		if errors.Is(err, known.is) {
			return known.reason
		}
	}
	return ""
}

// hintOf says what to do about a plugin's files.
func hintOf(name string, err error) string {
	switch reasonOf(err) {
	case reasonNotAdded:
		return "conclave plugin add PATH adds one; conclave plugin rm " + name + " removes it"
	case reasonSignature:
		return "sign it with a key of plugins.keys, or change plugins.policy"
	case "":
		return ""
	}
	return "conclave plugin upgrade " + name + " PATH puts right files in their place; conclave plugin rm " + name + " removes it"
}

// A statusError is an answer already, such as that the caller is gone.
type statusError interface {
	error
	GRPCStatus() *status.Status
}

// problem is the answer to a call.
func problem(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[statusError](err); ok {
		return err
	}
	for _, known := range []struct {
		is     error
		code   codes.Code
		reason string
	}{
		{errFailed, codes.FailedPrecondition, reasonFailed},
		{errRefused, codes.FailedPrecondition, reasonRefused},
		{errStarting, codes.Unavailable, recipe.ReasonRestarting},
		{errBusy, codes.Aborted, "conflict"},
		{errReserved, codes.Aborted, "conflict"},
		{errName, codes.InvalidArgument, "invalid_name"},
		{catalog.ErrExists, codes.Aborted, "conflict"},
		{catalog.ErrNotFound, codes.NotFound, "not_found"},
		{catalog.ErrTooLarge, codes.ResourceExhausted, "limit_package"},
		{catalog.ErrManifest, codes.InvalidArgument, reasonManifest},
		{launcher.ErrSpec, codes.InvalidArgument, reasonManifest},
		{catalog.ErrSignature, codes.InvalidArgument, reasonSignature},
		{catalog.ErrUnsupported, codes.InvalidArgument, reasonPackage},
		{launcher.ErrProtocol, codes.InvalidArgument, reasonPackage},
		{catalog.ErrMissing, codes.InvalidArgument, reasonPackage},
		{catalog.ErrChanged, codes.InvalidArgument, reasonPackage},
		{launcher.ErrIncompatible, codes.FailedPrecondition, "incompatible"},
		{context.Canceled, codes.Canceled, "canceled"},
		{context.DeadlineExceeded, codes.DeadlineExceeded, "deadline_exceeded"},
	} {
		if errors.Is(err, known.is) {
			return recipe.Errorf(known.code, known.reason, "%v", err)
		}
	}
	return recipe.Errorf(codes.Internal, "internal", "%v", err)
}
