package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// Exit codes.
const (
	ExitOK          = 0   // done
	ExitFailed      = 1   // failed
	ExitUsage       = 2   // usage, invalid argument
	ExitNotFound    = 3   // not found
	ExitPermission  = 4   // not permitted
	ExitNotAcquired = 5   // held by another, full, or a conflict
	ExitUnavailable = 6   // no host, no quorum
	ExitLost        = 7   // ownership lost while the command ran
	ExitUnknown     = 8   // outcome unknown
	ExitTimeout     = 124 // timed out
	exitNotRunnable = 126 // the command cannot be executed, as shells say it
	exitNoCommand   = 127 // there is no such command, as shells say it
)

// exitError ends a command line without a message: a command's own exit code.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// An Error is what the user is told: what happened, and what to do next.
type Error struct {
	Exit    int    `json:"-"`
	Code    string `json:"code"`           // gRPC's code, in lower case
	Reason  string `json:"reason"`         // for programs
	Message string `json:"message"`        // one line
	Hint    string `json:"hint,omitempty"` // what to do next
	cause   error
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.cause }

func usage(reason, hint, format string, args ...any) *Error {
	return &Error{Exit: ExitUsage, Code: "invalid_argument", Reason: reason, Hint: hint, Message: fmt.Sprintf(format, args...)}
}

// describe gives any error its exit code and reason.
func describe(err error) *Error {
	if e, ok := asError(err); ok {
		return e
	}
	e := &Error{Exit: ExitFailed, Code: "unknown", Reason: "failed", Message: oneLine(err), cause: err}
	for _, known := range knownErrors() {
		if errors.Is(err, known.is) {
			e.Exit, e.Code, e.Reason, e.Hint = known.exit, known.code, known.reason, known.hint
			return e
		}
	}
	e.fromStatus(err)
	return e
}

type knownError struct {
	is           error
	exit         int
	code, reason string
	hint         string
}

// knownErrors is in order: what is more telling stands first.
func knownErrors() []knownError {
	return []knownError{
		{core.ErrInvalid, ExitUsage, "invalid_argument", "invalid_argument", ""},
		{core.ErrUnknownOutcome, ExitUnknown, "unknown", "outcome_unknown", "look before you repeat it: it may have been done"},
		{lock.ErrLimitMismatch, ExitNotAcquired, "aborted", "conflict", "everybody who uses the name at one time must give the same --slots"},
		{lock.ErrLocked, ExitNotAcquired, "aborted", "locked", ""},
		{core.ErrSessionExpired, ExitNotAcquired, "failed_precondition", "session_expired", "renewals did not reach etcd in time: check that it is well"},
		{fs.ErrPermission, ExitFailed, "unknown", "failed", ""},
	}
}

func (e *Error) fromStatus(err error) {
	switch statusCode(err) {
	case codes.InvalidArgument:
		e.Exit, e.Code, e.Reason = ExitUsage, "invalid_argument", "invalid_argument"
		// etcd answers wrong names and passwords with this code.
		if errors.Is(err, rpctypes.ErrAuthFailed) || errors.Is(err, rpctypes.ErrUserEmpty) {
			e.Exit, e.Code, e.Reason = ExitPermission, "unauthenticated", "unauthenticated"
		}
	case codes.NotFound:
		e.Exit, e.Code, e.Reason = ExitNotFound, "not_found", "not_found"
	case codes.PermissionDenied:
		e.Exit, e.Code, e.Reason = ExitPermission, "permission_denied", "not_permitted"
	case codes.Unauthenticated:
		e.Exit, e.Code, e.Reason = ExitPermission, "unauthenticated", "unauthenticated"
	case codes.ResourceExhausted:
		e.Exit, e.Code, e.Reason = ExitNotAcquired, "resource_exhausted", "no_space"
	case codes.Unavailable, codes.DeadlineExceeded:
		e.Exit, e.Code, e.Reason = ExitUnavailable, "unavailable", "no_quorum"
	}
}

func statusCode(err error) codes.Code {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code()
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return codes.DeadlineExceeded
	}
	return codes.Unknown
}

// oneLine keeps a message of several lines to one.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; ")
}
