package recipe

import (
	"fmt"
	"net/url"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Domain is the domain of Conclave's reasons in google.rpc.ErrorInfo.
const Domain = "conclave"

// Errorf returns the error of a call: a gRPC status whose message begins with
// the reason, and that carries it as google.rpc.ErrorInfo too. Reasons are
// lower_snake_case; the public ones are listed in the API's error table.
func Errorf(code codes.Code, reason, format string, args ...any) error {
	st := status.New(code, reason+": "+fmt.Sprintf(format, args...))
	if detailed, err := st.WithDetails(&errdetails.ErrorInfo{Reason: reason, Domain: Domain}); err == nil {
		st = detailed
	}
	return st.Err()
}

// Reason returns the reason in an error of a call, or "".
func Reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == Domain {
			return info.GetReason()
		}
	}
	return ""
}

func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}
