package recipe

import (
	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/internal/reason"
)

// Domain is the domain of Conclave's reasons in google.rpc.ErrorInfo.
const Domain = reason.Domain

// Errorf returns the error of a call: a gRPC status whose message is
// "<reason>: <text>", and that carries the reason as google.rpc.ErrorInfo too.
// Reasons are lower_snake_case. The ones that hosts and the standard recipes
// share are listed at [Status]; a recipe may have more of its own.
func Errorf(code codes.Code, why, format string, args ...any) error {
	return reason.Errorf(code, why, format, args...)
}

// Reason returns the reason in an error of a call, on either side of it, or ""
// if it has none.
func Reason(err error) string { return reason.Of(err) }
