package recipe

import (
	"context"
	"errors"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// The reasons of [Status].
const (
	ReasonUnknownOutcome  = "outcome_unknown"
	ReasonSessionExpired  = "session_expired"
	ReasonRestarting      = "recipe_restarting"
	ReasonNotOwner        = "not_owner"
	ReasonNoQuorum        = "no_quorum"
	ReasonNoSpace         = "no_space"
	ReasonNotPermitted    = "not_permitted"
	ReasonUnauthenticated = "unauthenticated"
)

// Status turns an error of core, of a library or of etcd into the error of a
// call. What the caller can do about it decides its code and reason:
//
//   - core.ErrInvalid: INVALID_ARGUMENT, invalid_<field>, with the field and its
//     limit in the message.
//   - core.ErrUnknownOutcome: UNKNOWN, outcome_unknown.
//   - core.ErrSessionExpired, and a lease that is gone: FAILED_PRECONDITION,
//     session_expired.
//   - core.ErrSessionClosed, which is how a recipe that stops ends the sessions
//     that it borrowed: UNAVAILABLE, recipe_restarting.
//   - core.ErrKeyDeleted, core.ErrReleased, core.ErrRevoked: FAILED_PRECONDITION,
//     not_owner.
//   - etcd has no leader, no quorum or no time: UNAVAILABLE, no_quorum. etcd has
//     no space: RESOURCE_EXHAUSTED, no_space; limit_requests or
//     limit_request_bytes beyond its other limits.
//   - etcd wants a login that the host does not have: UNAUTHENTICATED,
//     unauthenticated. etcd, or the host on its behalf, refuses the recipe:
//     PERMISSION_DENIED, not_permitted.
//   - The end of a context: DEADLINE_EXCEEDED or CANCELED, without a reason.
//
// An error that is or wraps one of [Errorf] becomes that one. Nil is nil. Any
// other error comes back as it is, one of etcd's among them: a host answers it with UNKNOWN and keeps its
// text to its own log, since nobody has said that callers may read it. So a
// recipe maps its library's own errors, such as "held by another", before.
//
// After a write through [Env.Client], no_quorum does not say that nothing was
// written; the libraries tell that apart, and etcd's client does not.
func Status(err error) error {
	switch {
	case err == nil:
		return nil
	case Reason(err) != "":
		return withReason(err)
	case errors.Is(err, core.ErrUnknownOutcome):
		return Errorf(codes.Unknown, ReasonUnknownOutcome, "etcd did not answer, and may still do what it was asked for: look before you repeat it")
	case errors.Is(err, core.ErrInvalid):
		return invalid(err)
	case errors.Is(err, core.ErrSessionExpired):
		return Errorf(codes.FailedPrecondition, ReasonSessionExpired, "the session has ended and with it all that it owned; open another")
	case errors.Is(err, core.ErrSessionClosed):
		return Errorf(codes.Unavailable, ReasonRestarting, "the recipe is stopping here; the session and what it owns stand, call again")
	case errors.Is(err, core.ErrKeyDeleted), errors.Is(err, core.ErrReleased), errors.Is(err, core.ErrRevoked):
		return Errorf(codes.FailedPrecondition, ReasonNotOwner, "the session does not own it, or no longer")
	case errors.Is(err, context.DeadlineExceeded):
		return ended(codes.DeadlineExceeded)
	case errors.Is(err, context.Canceled):
		return ended(codes.Canceled)
	default:
		return fromEtcd(err)
	}
}

// withReason returns the status with a reason inside err. As part of a longer
// text it would no longer begin with its reason.
func withReason(err error) error {
	if e, ok := errors.AsType[statusError](err); ok && Reason(e) != "" {
		return e
	}
	return err
}

// statusError is an error that is a gRPC status.
type statusError interface {
	error
	GRPCStatus() *status.Status
}

// invalid names the field that is outside its limits.
func invalid(err error) error {
	if e, ok := errors.AsType[*keyspace.Error](err); ok {
		return Errorf(codes.InvalidArgument, "invalid_"+identifier(e.Field), "%s", e.Error())
	}
	text := oneLine(invalidText(err))
	field, _, ok := strings.Cut(text, ": ")
	if !ok {
		field = ""
	}
	return Errorf(codes.InvalidArgument, "invalid_"+identifier(field), "%s", text)
}

// invalidText returns what follows core.ErrInvalid's own text, where err wraps
// it together with what is wrong.
func invalidText(err error) string {
	text, mark := err.Error(), core.ErrInvalid.Error()+": "
	if i := strings.LastIndex(text, mark); i >= 0 {
		return text[i+len(mark):]
	}
	return text
}

// identifier makes a field's name a part of a reason; what is no field's name is
// "argument".
func identifier(field string) string {
	s := strings.ReplaceAll(field, " ", "_")
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return "argument"
		}
	}
	if s == "" || len(s) > 32 {
		return "argument"
	}
	return s
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", "; ") }

// etcdError returns the error of etcd, or of the way to it, in err, in the form
// in which etcd's own errors can be compared, and its code.
func etcdError(err error) (codes.Code, error) {
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		return e.Code(), e
	}
	if e, ok := errors.AsType[statusError](err); ok {
		return e.GRPCStatus().Code(), rpctypes.Error(e)
	}
	return codes.Unknown, err
}

// fromEtcd maps what etcd says. Its own words stay out of the answer: they are
// about the host's business, and may hold addresses.
func fromEtcd(err error) error {
	code, e := etcdError(err)
	switch {
	case errors.Is(e, rpctypes.ErrLeaseNotFound):
		return Status(core.ErrSessionExpired)
	case errors.Is(e, rpctypes.ErrNoSpace):
		return Errorf(codes.ResourceExhausted, ReasonNoSpace, "etcd's database is full; releases still work, an operator has to make room")
	case errors.Is(e, rpctypes.ErrTooManyRequests):
		return Errorf(codes.ResourceExhausted, "limit_requests", "etcd has more requests than it can apply; wait and call again")
	case errors.Is(e, rpctypes.ErrRequestTooLarge):
		return Errorf(codes.ResourceExhausted, "limit_request_bytes", "the request is larger than etcd takes")
	case errors.Is(e, rpctypes.ErrUserEmpty), errors.Is(e, rpctypes.ErrAuthFailed),
		errors.Is(e, rpctypes.ErrInvalidAuthToken), errors.Is(e, rpctypes.ErrAuthOldRevision):
		return Errorf(codes.Unauthenticated, ReasonUnauthenticated, "etcd has authentication switched on, and the host is not logged in")
	case errors.Is(e, rpctypes.ErrPermissionDenied):
		return Errorf(codes.PermissionDenied, ReasonNotPermitted, "etcd refuses it to the recipe")
	}
	switch code {
	case codes.Unavailable:
		return Errorf(codes.Unavailable, ReasonNoQuorum, "etcd has no quorum, or cannot be reached")
	case codes.DeadlineExceeded, codes.Canceled:
		return ended(code)
	default:
		return err
	}
}

// ended is the error of a call whose own context ended.
func ended(code codes.Code) error {
	if code == codes.DeadlineExceeded {
		return status.Error(code, "the call's deadline has passed")
	}
	return status.Error(code, "the call was cancelled")
}
