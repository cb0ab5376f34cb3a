package router

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/internal/reason"
)

// errTooLong is the cause of the end of a read that took longer than the router allows.
var errTooLong = errors.New("router: the read took too long")

// enlist registers the call, so that a stop can end it, and turns what it ends
// with into what its caller is told.
func (r *Router) enlist(_ *route, next handler) handler {
	return func(c *call) error {
		if err := r.calls.add(c); err != nil {
			return stopping()
		}
		defer r.calls.remove(c)
		return r.answer(c, next(c))
	}
}

func stopping() error {
	return reason.Errorf(codes.Unavailable, "host_stopping", "the host is stopping")
}

// answer makes a status of an error, and says why a call was ended from outside.
func (r *Router) answer(c *call, err error) error {
	if err == nil {
		return nil
	}
	code, bare := codeOf(err)
	cause := context.Cause(c.ctx)
	if code == codes.Canceled || code == codes.DeadlineExceeded || (cause != nil && errors.Is(err, cause)) {
		switch {
		case errors.Is(cause, ErrStopping):
			return stopping()
		case errors.Is(cause, ErrWithdrawn):
			return restarting("the recipe was stopped; try again")
		case errors.Is(cause, errTooLong):
			return reason.Errorf(codes.DeadlineExceeded, "deadline_exceeded", "the read took longer than %v", r.maxRead)
		}
	}
	switch {
	case !bare:
		return plain(err)
	case code == codes.Canceled:
		return reason.Errorf(code, "canceled", "the call was given up")
	case code == codes.DeadlineExceeded:
		return reason.Errorf(code, "deadline_exceeded", "the call's deadline passed")
	}
	method := "unknown"
	if c.route.method != nil {
		method = c.route.method.FullName
	}
	r.log.Error("call failed without a status", "method", method, "error", err)
	return reason.Errorf(codes.Unknown, "recipe_failed", "the recipe failed; the host's log has the reason")
}

// plain takes off what was wrapped around a status with a reason: its message
// begins with the reason, and with nothing else.
func plain(err error) error {
	if _, direct := err.(interface{ GRPCStatus() *status.Status }); direct {
		return err
	}
	var coded interface{ GRPCStatus() *status.Status }
	if why := reason.Of(err); why != "" && errors.As(err, &coded) {
		return coded.GRPCStatus().Err()
	}
	return err
}

// codeOf returns the code that an error stands for; bare says that it is no
// status. A status that says OK is no error, so an error that has one is bare.
func codeOf(err error) (code codes.Code, bare bool) {
	var coded interface{ GRPCStatus() *status.Status }
	if errors.As(err, &coded) && coded.GRPCStatus().Code() != codes.OK {
		return coded.GRPCStatus().Code(), false
	}
	switch {
	case errors.Is(err, context.Canceled):
		return codes.Canceled, true
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded, true
	}
	return codes.Unknown, true
}
