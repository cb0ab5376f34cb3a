package lock_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
)

// What an instance still asks of an etcd that is away ends with its Close, and does
// not go on behind the host's back.
func TestNothingOutlivesClose(t *testing.T) {
	t.Parallel()
	asked, ended := make(chan struct{}), make(chan error, 1)
	silent := grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if !strings.HasSuffix(method, "/LeaseRevoke") {
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		select {
		case <-asked: // only the first one is waited for
		default:
			close(asked)
		}
		<-ctx.Done()
		select {
		case ended <- ctx.Err():
		default:
		}
		return ctx.Err()
	})
	h := startHost(t, etcd.Client(t, silent), &lockv1.Config{HistoryOff: true})
	eventually(t, "the instance has its session", func() bool {
		_, err := h.ForceRelease(testContext(t), &lockv1.ForceReleaseRequest{Name: etcd.Prefix(t), Reason: "free"})
		return err == nil
	})
	ctx, cancel := context.WithCancelCause(testContext(t))
	over := errors.New("the host waits no longer")
	go func() {
		<-asked
		cancel(over)
	}()
	if err := h.Instance.Close(ctx); !errors.Is(err, over) {
		t.Errorf("Close: %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the request ended by itself: %v", err)
	}
	h.StopInstance(t)
}
