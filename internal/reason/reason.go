// Package reason makes and reads the errors of the API: gRPC statuses that name
// a reason for programs to branch on.
package reason

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Domain is the domain of Conclave's reasons in google.rpc.ErrorInfo.
const Domain = "conclave"

// Errorf returns a status whose message is "<reason>: <text>" and that carries
// the reason as google.rpc.ErrorInfo too. Reasons are lower_snake_case.
func Errorf(code codes.Code, reason, format string, args ...any) error {
	st := status.New(code, reason+": "+fmt.Sprintf(format, args...))
	if detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: Domain}); err == nil {
		st = detailed
	}
	return st.Err()
}

// Of returns the reason that an error carries, or "".
func Of(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return info.GetReason()
		}
	}
	return ""
}
