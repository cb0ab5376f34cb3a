package reason_test

import (
	"errors"
	"fmt"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/internal/reason"
)

func TestErrorf(t *testing.T) {
	err := reason.Errorf(codes.Aborted, "locked", "lock %q: held by %s", "ledger", "host-3")
	st := status.Convert(err)
	if st.Code() != codes.Aborted || st.Message() != `locked: lock "ledger": held by host-3` {
		t.Errorf("got %v %q", st.Code(), st.Message())
	}
	if got := reason.Of(err); got != "locked" {
		t.Errorf("reason is %q, want locked", got)
	}
	if got := reason.Of(fmt.Errorf("wrapped: %w", err)); got != "locked" {
		t.Errorf("reason of the wrapped error is %q, want locked", got)
	}
}

func TestOfOthers(t *testing.T) {
	foreign, err := status.New(codes.Aborted, "locked: x").WithDetails(&errdetails.ErrorInfo{Reason: "locked", Domain: "example.com"})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{nil, errors.New("locked: plain"), status.Error(codes.Aborted, "locked: bare"), foreign.Err()} {
		if got := reason.Of(err); got != "" {
			t.Errorf("reason of %v is %q, want none", err, got)
		}
	}
}
