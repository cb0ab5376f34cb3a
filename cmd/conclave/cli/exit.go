package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/election"
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
	if e.fromHost(err) {
		return e
	}
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

const (
	unknownHint   = "look before you repeat it: it may have been done"
	slotsHint     = "everybody who uses the name at one time must give the same --slots"
	callerHint    = "give a token with --auth-token or CONCLAVE_AUTH_TOKEN, or a certificate with --cert and --key; the file auth.callers of the host says who may"
	hostLoginHint = "give the host a user of etcd, with etcd.user in its configuration, or: conclave etcdctl auth disable"
	etcdLoginHint = "log in: with --user and --password-file where the command has them, or with a client certificate that etcd knows, --cert and --key"
	expiredHint   = "renewals did not reach etcd in time: check that it is well"
)

// knownErrors is in order: what is more telling stands first.
func knownErrors() []knownError {
	return []knownError{
		{core.ErrInvalid, ExitUsage, "invalid_argument", "invalid_argument", ""},
		{core.ErrUnknownOutcome, ExitUnknown, "unknown", "outcome_unknown", unknownHint},
		{lock.ErrLimitMismatch, ExitNotAcquired, "aborted", "conflict", ""}, // election.ErrSeatsMismatch is the same
		{lock.ErrLocked, ExitNotAcquired, "aborted", "locked", ""},
		{barrier.ErrFull, ExitNotAcquired, "aborted", "full", ""},
		{barrier.ErrBroken, ExitNotAcquired, "aborted", "broken", ""},
		{barrier.ErrPartiesMismatch, ExitNotAcquired, "aborted", "conflict", ""},
		{election.ErrNoLeader, ExitNotFound, "not_found", "not_found", ""},
		{election.ErrNoContender, ExitNotFound, "not_found", "not_found", ""},
		{election.ErrNotTransferred, ExitNotAcquired, "aborted", "conflict", ""},
		{core.ErrSessionExpired, ExitNotAcquired, "failed_precondition", "session_expired", expiredHint},
		{fs.ErrPermission, ExitFailed, "unknown", "failed", ""},
	}
}

// fromHost takes over what a host said, if the error is a host's.
func (e *Error) fromHost(err error) bool {
	e2, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err)
	reason := recipe.Reason(err)
	if !ok || reason == "" {
		return false
	}
	st := e2.GRPCStatus()
	e.Code, e.Reason, e.Exit = codeName(st.Code()), reason, exitOf(st.Code(), reason)
	e.Message = oneLine(errors.New(strings.TrimPrefix(st.Message(), reason+": ")))
	e.Hint = hintFor(reason)
	// Either the host asks its caller, or etcd the host.
	if e.Exit == ExitPermission && !strings.Contains(e.Message, "etcd") {
		e.Hint = callerHint
	}
	return true
}

// exitOf is the exit code for an error of a host.
func exitOf(code codes.Code, reason string) int {
	switch code {
	case codes.InvalidArgument, codes.OutOfRange:
		return ExitUsage
	case codes.NotFound:
		return ExitNotFound
	case codes.PermissionDenied, codes.Unauthenticated:
		return ExitPermission
	case codes.FailedPrecondition, codes.Aborted, codes.ResourceExhausted, codes.AlreadyExists:
		return ExitNotAcquired
	case codes.Unavailable:
		return ExitUnavailable
	case codes.DeadlineExceeded:
		return ExitTimeout
	}
	if reason == "outcome_unknown" {
		return ExitUnknown
	}
	return ExitFailed
}

// hintFor says what to do about a reason where that does not depend on the call.
func hintFor(reason string) string {
	switch reason {
	case "outcome_unknown":
		return unknownHint
	case "session_expired":
		return expiredHint
	case "no_quorum":
		return "see what is wrong with: conclave doctor"
	case "no_space":
		return "etcd's quota is used up: delete keys, then: conclave maintenance recover; see conclave doctor"
	case "recipe_restarting":
		return "try again in a moment; if it lasts, conclave status says why"
	case "unauthenticated":
		return hostLoginHint
	case "not_permitted":
		return "ask for the permission, or use another identity"
	}
	return ""
}

// codeName is a code as the API spells it: failed_precondition.
func codeName(c codes.Code) string {
	var b strings.Builder
	for i, r := range c.String() {
		if unicode.IsUpper(r) && i > 0 && c != codes.OK {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

func (e *Error) fromStatus(err error) {
	switch statusCode(err) {
	case codes.InvalidArgument:
		e.Exit, e.Code, e.Reason = ExitUsage, "invalid_argument", "invalid_argument"
		// etcd answers wrong names and passwords with this code.
		if errors.Is(err, rpctypes.ErrAuthFailed) || errors.Is(err, rpctypes.ErrUserEmpty) {
			e.Exit, e.Code, e.Reason, e.Hint = ExitPermission, "unauthenticated", "unauthenticated", etcdLoginHint
		}
	case codes.NotFound:
		e.Exit, e.Code, e.Reason = ExitNotFound, "not_found", "not_found"
	case codes.PermissionDenied:
		e.Exit, e.Code, e.Reason = ExitPermission, "permission_denied", "not_permitted"
	case codes.Unauthenticated:
		e.Exit, e.Code, e.Reason, e.Hint = ExitPermission, "unauthenticated", "unauthenticated", etcdLoginHint
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
