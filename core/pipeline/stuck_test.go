package pipeline_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/pipeline"
)

// A stuck is a connection on which nothing that is sent gets away.
type stuck struct{ alone atomic.Int64 }

func (s *stuck) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	s.alone.Add(1)
	return status.Error(codes.Unavailable, "stuck")
}

func (s *stuck) NewStream(ctx context.Context, _ *grpc.StreamDesc, _ string, _ ...grpc.CallOption) (grpc.ClientStream, error) {
	return stuckStream{ctx: ctx}, nil
}

type stuckStream struct {
	grpc.ClientStream

	ctx context.Context
}

func (s stuckStream) Context() context.Context   { return s.ctx }
func (stuckStream) Header() (metadata.MD, error) { return metadata.MD{}, nil }
func (stuckStream) CloseSend() error             { return nil }
func (s stuckStream) SendMsg(any) error          { return s.RecvMsg(nil) }
func (s stuckStream) RecvMsg(any) error          { <-s.ctx.Done(); return s.ctx.Err() }

// What waits for a connection that does not move is bounded: calls travel alone then,
// and fare as the connection lets them.
func TestStuckConnection(t *testing.T) {
	below := new(stuck)
	conn := pipeline.New(below)
	if err := conn.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	client := lockv1.NewLockServiceClient(conn)
	const all, size = 100, 50_000
	var calls sync.WaitGroup
	ended := make(chan error, all)
	for range all {
		calls.Go(func() {
			_, err := client.Why(t.Context(), &lockv1.WhyRequest{Name: strings.Repeat("x", size)})
			ended <- err
		})
	}
	const fit = (1<<20)/size + 3 // the one over the limit, and those that are being sent
	for range all - fit {
		select {
		case err := <-ended:
			if status.Code(err) != codes.Unavailable {
				t.Errorf("a call that travels alone: %v", err)
			}
		case <-within(t).Done():
			t.Fatalf("%d calls travelled alone", below.alone.Load())
		}
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	calls.Wait()
}
