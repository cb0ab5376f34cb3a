package pipeline_test

import (
	"context"
	"fmt"

	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
)

// strange is a host's service with a way to end for every name.
func strange(ctx context.Context, r *lockv1.WhyRequest) (*lockv1.WhyResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if err := grpc.SetHeader(ctx, metadata.Pairs("x-header", "h", "x-header-bin", "\x00\xff")); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "t", "conclave-hidden", "no")); err != nil {
		return nil, err
	}
	switch r.GetName() {
	case "locked":
		return nil, recipe.Errorf(codes.Aborted, "locked", "held by another")
	case "bare":
		return nil, status.Error(codes.NotFound, "gone")
	case "secret":
		return nil, fmt.Errorf("dial unix /run/secret: refused")
	case "panic":
		panic("a mistake")
	case "canceled":
		return nil, fmt.Errorf("acquire: %w", context.Canceled)
	case "metadata":
		return &lockv1.WhyResponse{Name: fmt.Sprintf("%q %q %q", md.Get("x-mine"), md.Get("x-mine-bin"), md.Get("conclave-mine"))}, nil
	case "long":
		return &lockv1.WhyResponse{Name: strings.Repeat("x", 3<<20)}, nil
	case "too long":
		return &lockv1.WhyResponse{Name: strings.Repeat("x", 5<<20)}, nil
	}
	return &lockv1.WhyResponse{Name: r.GetName()}, nil
}

// A call that travels with others ends as one that travels alone does.
func TestCallsAreAsWithoutAPipeline(t *testing.T) {
	h := serve(t, &locks{why: strange}, setup{})
	through, alone := piped(t, h.addr), dial(t, h.addr)
	plain := lockv1.NewLockServiceClient(alone.below)
	for _, name := range []string{"", "name", "locked", "bare", "secret", "panic", "canceled", "metadata", "long", "too long"} {
		t.Run(name, func(t *testing.T) {
			ctx := metadata.AppendToOutgoingContext(within(t), "x-mine", "1", "x-mine", "2", "x-mine-bin", "\x00\xff", "conclave-mine", "no")
			var header, trailer, wantHeader, wantTrailer metadata.MD
			got, err := through.Why(ctx, &lockv1.WhyRequest{Name: name}, grpc.Header(&header), grpc.Trailer(&trailer))
			want, wantErr := plain.Why(ctx, &lockv1.WhyRequest{Name: name}, grpc.Header(&wantHeader), grpc.Trailer(&wantTrailer))
			if status.Code(err) != status.Code(wantErr) || recipe.Reason(err) == "" && recipe.Reason(wantErr) != "" || got.GetName() != want.GetName() {
				t.Errorf("got %.40q, %v; alone it is %.40q, %v", got.GetName(), err, want.GetName(), wantErr)
			}
			if name != "too long" && status.Convert(err).Message() != status.Convert(wantErr).Message() {
				t.Errorf("got %v; alone it is %v", err, wantErr)
			}
			for _, key := range []string{"x-header", "x-header-bin", "x-trailer", "conclave-hidden"} {
				if fmt.Sprint(header.Get(key), trailer.Get(key)) != fmt.Sprint(wantHeader.Get(key), wantTrailer.Get(key)) && name != "panic" && name != "too long" {
					t.Errorf("%s: got %v and %v; alone it is %v and %v", key, header.Get(key), trailer.Get(key), wantHeader.Get(key), wantTrailer.Get(key))
				}
			}
		})
	}
	_, err := through.ask(within(t), "too long")
	want(t, err, codes.ResourceExhausted, "limit_message")
	_, err = through.List(within(t), &lockv1.ListRequest{}) // a method that the service does not have
	_, wantErr := plain.List(within(t), &lockv1.ListRequest{})
	if status.Code(err) != codes.Unimplemented || err.Error() != wantErr.Error() {
		t.Errorf("got %v; alone it is %v", err, wantErr)
	}
	through.travels(t, 0)
}

// Calls that a pipeline cannot carry travel alone, and no worse.
func TestCallsThatTravelAlone(t *testing.T) {
	h := serve(t, &locks{}, setup{})
	c := piped(t, h.addr)
	over, cancel := context.WithDeadline(within(t), time.Now().Add(-time.Second))
	defer cancel()
	for i, do := range []struct {
		what string
		ctx  context.Context
		name string
		opts []grpc.CallOption
		code codes.Code
	}{
		{"a long request", within(t), strings.Repeat("x", 100_000), nil, codes.OK},
		{"a limit of its own", within(t), "name", []grpc.CallOption{grpc.MaxCallRecvMsgSize(1)}, codes.ResourceExhausted},
		{"a compressor", within(t), "name", []grpc.CallOption{grpc.UseCompressor("identity")}, codes.OK},
		{"credentials of its own", metadata.AppendToOutgoingContext(within(t), "Authorization", "Bearer x"), "name", nil, codes.OK},
		{"much metadata", metadata.AppendToOutgoingContext(within(t), "x-key", strings.Repeat("x", 33_000)), "name", nil, codes.OK},
		{"a deadline that passed", over, "name", nil, codes.DeadlineExceeded},
	} {
		if _, err := c.ask(do.ctx, do.name, do.opts...); status.Code(err) != do.code {
			t.Errorf("%s: got %v, want %v", do.what, err, do.code)
		}
		c.travels(t, int64(i+1))
	}
	var from peer.Peer
	if _, err := c.ask(within(t), "name", grpc.Peer(&from), grpc.WaitForReady(true)); err != nil || from.Addr == nil || from.Addr.String() != h.addr {
		t.Errorf("got %v from %v", err, from.Addr)
	}
	c.travels(t, 6)
	if err := c.conn.Invoke(within(t), lockv1.LockService_Why_FullMethodName, "no message", new(string)); status.Code(err) != codes.Internal {
		t.Errorf("no message at all: %v", err)
	}
	c.travels(t, 7)
	watch, err := c.Watch(within(t), &lockv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("a stream: %v", err)
	}
}

// The end of a caller's context ends the call, here and at the host.
func TestContextsEndCalls(t *testing.T) {
	entered, left := make(chan context.Context, 1), make(chan error, 1)
	h := serve(t, &locks{acquire: func(ctx context.Context, _ *lockv1.AcquireRequest) (*lockv1.AcquireResponse, error) {
		entered <- ctx
		<-ctx.Done()
		left <- ctx.Err()
		return nil, ctx.Err()
	}}, setup{})
	c := piped(t, h.addr)
	for _, way := range []struct {
		name string
		ctx  func() (context.Context, context.CancelFunc)
		code codes.Code
	}{
		{"cancelled", func() (context.Context, context.CancelFunc) { return context.WithCancel(within(t)) }, codes.Canceled},
		{"deadline", func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(within(t), 50*time.Millisecond)
		}, codes.DeadlineExceeded},
	} {
		t.Run(way.name, func(t *testing.T) {
			ctx, cancel := way.ctx()
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := c.Acquire(ctx, &lockv1.AcquireRequest{})
				done <- err
			}()
			at := <-entered
			if _, ok := at.Deadline(); !ok {
				t.Error("the deadline did not arrive")
			}
			if way.code == codes.Canceled {
				cancel()
			}
			if err := <-done; status.Code(err) != way.code {
				t.Errorf("the caller got %v", err)
			}
			if err := <-left; err == nil {
				t.Error("the service's context did not end")
			}
		})
	}
	if got, err := c.ask(within(t), "alive"); err != nil || got != "alive" {
		t.Errorf("afterwards got %q, %v", got, err)
	}
	c.travels(t, 0)
}

// Many calls, some of which are given up, get their own answers.
func TestFlood(t *testing.T) {
	h := serve(t, &locks{}, setup{})
	c := piped(t, h.addr)
	all := 100_000
	if testing.Short() {
		all = 10_000
	}
	const callers = 256
	failed := make(chan error, callers)
	for k := range callers {
		go func() {
			for i := k; i < all; i += callers {
				ctx, cancel := context.WithCancel(t.Context())
				if i%17 == 0 {
					go cancel()
				}
				name := fmt.Sprint("name-", i)
				got, err := c.ask(ctx, name)
				cancel()
				if (err != nil || got != name) && (i%17 != 0 || status.Code(err) != codes.Canceled) {
					failed <- fmt.Errorf("%s: got %q, %w", name, got, err)
					return
				}
			}
			failed <- nil
		}()
	}
	for range callers {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

// An answer is the caller's: later ones do not change it.
func TestAnswersAreNotShared(t *testing.T) {
	h := serve(t, &locks{why: func(_ context.Context, r *lockv1.WhyRequest) (*lockv1.WhyResponse, error) {
		return &lockv1.WhyResponse{Name: r.GetName(), Holders: []*lockv1.Holder{{Owner: strings.Repeat(r.GetName(), 100)}}}, nil
	}}, setup{})
	c := piped(t, h.addr)
	var all []*lockv1.WhyResponse
	for i := range 1000 {
		resp, err := c.Why(within(t), &lockv1.WhyRequest{Name: fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, resp)
	}
	for i, resp := range all {
		if name := fmt.Sprint(i); resp.GetName() != name || resp.GetHolders()[0].GetOwner() != strings.Repeat(name, 100) {
			t.Fatalf("answer %d is now %v", i, resp)
		}
	}
}
