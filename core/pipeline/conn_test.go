package pipeline_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	pipelinev1 "github.com/conclavehq/conclave/api/conclave/pipeline/v1"
	"github.com/conclavehq/conclave/core/pipeline"
	"github.com/conclavehq/conclave/internal/router"
)

// The first call opens the pipeline and does not wait for it.
func TestPipelineOpensByItself(t *testing.T) {
	h := serve(t, &locks{}, setup{})
	c := dial(t, h.addr)
	if _, err := c.ask(within(t), "first"); err != nil {
		t.Fatal(err)
	}
	c.travels(t, 1)
	c.ready(t)
	if _, err := c.ask(within(t), "second"); err != nil {
		t.Fatal(err)
	}
	c.travels(t, 1)
	if got := c.below.streams.Load(); got != 1 {
		t.Errorf("%d streams were opened", got)
	}
}

// With a host that has no pipelines calls travel alone, and it is not asked each time.
func TestOldHost(t *testing.T) {
	h := serve(t, &locks{}, setup{old: true})
	c := dial(t, h.addr)
	want(t, c.conn.Ready(within(t)), codes.Unimplemented, "unknown_method")
	for i := range 10 {
		if _, err := c.ask(within(t), "name"); err != nil {
			t.Fatal(err)
		}
		c.travels(t, int64(i+1))
	}
	if got := c.below.streams.Load(); got != 1 {
		t.Errorf("the host was asked %d times for a pipeline", got)
	}
}

func TestUnreachableHost(t *testing.T) {
	h := serve(t, &locks{}, setup{})
	h.end()
	c := dial(t, h.addr)
	if err := c.conn.Ready(within(t)); status.Code(err) != codes.Unavailable {
		t.Errorf("Ready: %v", err)
	}
	if _, err := c.ask(within(t), "name"); status.Code(err) != codes.Unavailable {
		t.Errorf("a call: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.conn.Ready(ctx); status.Code(err) != codes.Canceled && status.Code(err) != codes.Unavailable {
		t.Errorf("Ready within a context that has ended: %v", err)
	}
}

// waiting is an Acquire that tells when it was entered, how often, and ends with its
// context.
type waiting struct {
	entered chan struct{}
	times   atomic.Int64
}

func (w *waiting) acquire(ctx context.Context, _ *lockv1.AcquireRequest) (*lockv1.AcquireResponse, error) {
	w.times.Add(1)
	w.entered <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// begin acquires in the background until the host has got the call.
func (c *client) begin(tb testing.TB, w *waiting) <-chan error {
	tb.Helper()
	ctx, done := within(tb), make(chan error, 1)
	go func() {
		_, err := c.Acquire(ctx, &lockv1.AcquireRequest{})
		done <- err
	}()
	<-w.entered
	return done
}

// What was sent and not answered when the host dies fails, and is not sent again. A
// host that comes back is found.
func TestHostDies(t *testing.T) {
	w := &waiting{entered: make(chan struct{}, 1)}
	h := serve(t, &locks{acquire: w.acquire}, setup{})
	c := piped(t, h.addr, grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second}))
	done := c.begin(t, w)
	h.end()
	if err := <-done; status.Code(err) != codes.Unavailable {
		t.Errorf("the call under way: %v", err)
	}
	again := serve(t, &locks{acquire: w.acquire}, setup{addr: h.addr})
	for c.conn.Ready(within(t)) != nil { // the connection waits between its attempts
		if t.Context().Err() != nil {
			t.Fatal("no pipeline to the host that came back")
		}
	}
	alone := c.below.alone.Load()
	if got, err := c.ask(within(t), "name"); err != nil || got != "name" {
		t.Errorf("a call of the host that came back: %q, %v", got, err)
	}
	c.travels(t, alone)
	if got := w.times.Load(); got != 1 {
		t.Errorf("the call was executed %d times", got)
	}
	again.end()
}

// A host that stops tells so those whose calls are under way.
func TestHostStops(t *testing.T) {
	w := &waiting{entered: make(chan struct{}, 1)}
	h := serve(t, &locks{acquire: w.acquire}, setup{})
	c := piped(t, h.addr)
	done := c.begin(t, w)
	h.Drain()
	_, err := c.ask(within(t), "late")
	want(t, err, codes.Unavailable, "host_stopping")
	if err := h.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	want(t, <-done, codes.Unavailable, "host_stopping")
}

// Close ends what is under way and lets nothing begin.
func TestClose(t *testing.T) {
	w := &waiting{entered: make(chan struct{}, 1)}
	h := serve(t, &locks{acquire: w.acquire}, setup{})
	c := piped(t, h.addr)
	done := c.begin(t, w)
	for range 2 {
		if err := c.conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("the call under way: %v", err)
	}
	if _, err := c.ask(within(t), "late"); status.Code(err) != codes.Canceled {
		t.Errorf("a later call: %v", err)
	}
	if err := c.conn.Ready(within(t)); status.Code(err) != codes.Canceled {
		t.Errorf("Ready: %v", err)
	}
	unused := pipeline.New(c.below)
	if err := unused.Close(); err != nil {
		t.Errorf("one that was never used: %v", err)
	}
}

// Calls, streams that end, and Close at once: nothing hangs and nothing is left.
func TestCloseWhileCallsBegin(t *testing.T) {
	h := serve(t, &locks{}, setup{})
	for range 20 {
		c := dial(t, h.addr)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for {
					if _, err := c.ask(t.Context(), "name"); err != nil {
						if status.Code(err) != codes.Canceled {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		c.ready(t)
		if err := c.conn.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
	}
}

// A rotating is the credentials of a caller that gets new ones.
type rotating struct{ token atomic.Value }

func (r *rotating) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": fmt.Sprint("Bearer ", r.token.Load())}, nil
}

func (*rotating) RequireTransportSecurity() bool { return false }

// one lets in who shows the token that is good now.
type one struct{ token atomic.Value }

func (o *one) Authorize(ctx context.Context, m *router.Method) (string, error) {
	if m.FullName == pipelinev1.PipelineService_Calls_FullMethodName {
		return "", nil
	}
	if v := metadata.ValueFromIncomingContext(ctx, "authorization"); len(v) == 1 && v[0] == fmt.Sprint("Bearer ", o.token.Load()) {
		return "ann", nil
	}
	return "", status.Error(codes.Unauthenticated, "unauthenticated: who calls?")
}

// After new credentials the calls travel on a stream that was opened with them.
func TestCredentialsChange(t *testing.T) {
	door, key := new(one), new(rotating)
	door.token.Store("old")
	key.token.Store("old")
	h := serve(t, &locks{}, setup{cfg: router.Config{Authorizer: door}})
	c := piped(t, h.addr, grpc.WithPerRPCCredentials(key))
	if _, err := c.ask(within(t), "name"); err != nil {
		t.Fatal(err)
	}
	door.token.Store("new")
	if _, err := c.ask(within(t), "name"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("with old credentials: %v", err)
	}
	key.token.Store("new")
	c.ready(t)
	alone := c.below.alone.Load()
	if _, err := c.ask(within(t), "name"); err != nil {
		t.Errorf("with new credentials: %v", err)
	}
	c.travels(t, alone)
	if got := c.below.streams.Load(); got != 2 {
		t.Errorf("%d streams were opened", got)
	}
}

// A stream that takes no more calls still tells the host which of its calls nobody
// waits for.
func TestRetiredStreamCancels(t *testing.T) {
	door, key := new(one), new(rotating)
	door.token.Store("old")
	key.token.Store("old")
	w, left := &waiting{entered: make(chan struct{}, 1)}, make(chan struct{})
	h := serve(t, &locks{acquire: func(ctx context.Context, r *lockv1.AcquireRequest) (*lockv1.AcquireResponse, error) {
		defer close(left)
		return w.acquire(ctx, r)
	}}, setup{cfg: router.Config{Authorizer: door}})
	c := piped(t, h.addr, grpc.WithPerRPCCredentials(key))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := c.Acquire(ctx, &lockv1.AcquireRequest{})
		done <- err
	}()
	<-w.entered
	door.token.Store("new")
	if _, err := c.ask(within(t), "name"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("with old credentials: %v", err)
	}
	key.token.Store("new")
	c.ready(t) // on the next stream
	cancel()
	if err := <-done; status.Code(err) != codes.Canceled {
		t.Errorf("the call that was given up: %v", err)
	}
	select {
	case <-left:
	case <-within(t).Done():
		t.Error("the host still serves it")
	}
}
