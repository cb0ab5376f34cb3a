package router_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/conclavehq/conclave/internal/reason"
	"github.com/conclavehq/conclave/internal/router"
)

// TestClose ends calls of all kinds, in this process and behind proxies, while
// their callers are silent.
func TestClose(t *testing.T) {
	cause := make(chan error, 8)
	entered := make(chan string, 8)
	e := &echo{
		unary: func(ctx context.Context, method string, in message) (message, error) {
			entered <- method
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return message{}, ctx.Err()
		},
		stream: func(method string, s echoStream) error {
			entered <- method
			for {
				if _, err := s.recv(); err != nil {
					cause <- context.Cause(s.Context())
					return err
				}
				if err := s.send("x"); err != nil {
					return err
				}
				if method == "Watch" {
					<-s.Context().Done()
					cause <- context.Cause(s.Context())
					return s.Context().Err()
				}
			}
		},
	}
	backends(t, router.Config{}, e, func(t *testing.T, f *front) {
		slow := f.start(t, "Do", "")
		chat, watch := f.open(t.Context(), t, "Chat"), f.open(t.Context(), t, "Watch")
		exchangeOne(t, chat)
		exchangeOne(t, watch)
		for range 3 {
			<-entered
		}
		health, err := healthpb.NewHealthClient(f.conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := health.Recv(); err != nil {
			t.Fatal(err)
		}
		if err := f.closeWithin(t, 20*time.Second); err != nil {
			t.Fatal(err)
		}
		want(t, (<-slow).err, codes.Unavailable, "host_stopping")
		for _, s := range []clientStream{chat, watch} {
			_, err := s.recv()
			want(t, err, codes.Unavailable, "host_stopping")
		}
		for err == nil { // it may say NOT_SERVING first
			_, err = health.Recv()
		}
		want(t, err, codes.Unavailable, "host_stopping")
		_, err = f.call(t, "Do", "")
		want(t, err, codes.Unavailable, "host_stopping")
		for range 3 {
			if c := <-cause; c == nil {
				t.Error("a context ended without a cause")
			}
		}
		if err := f.closeWithin(t, 20*time.Second); err != nil {
			t.Errorf("once more: %v", err)
		}
	})
}

func TestCloseHasItsCause(t *testing.T) {
	f := newFront(t, router.Config{})
	entered, cause := make(chan struct{}), make(chan error, 1)
	f.local(t, "echo", &echo{unary: func(ctx context.Context, _ string, _ message) (message, error) {
		close(entered)
		<-ctx.Done()
		cause <- context.Cause(ctx)
		return message{}, reason.Errorf(codes.Unknown, "outcome_unknown", "of the recipe's own")
	}}, echoName)
	slow := f.start(t, "Do", "")
	<-entered
	if err := f.closeWithin(t, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := <-cause; !errors.Is(err, router.ErrStopping) {
		t.Errorf("got cause %v", err)
	}
	want(t, (<-slow).err, codes.Unknown, "outcome_unknown") // what the recipe knows better stands
}

// TestCloseOfOneThatTellsItsCause ends a call whose service returns the cause of
// its context's end, and not the end itself.
func TestCloseOfOneThatTellsItsCause(t *testing.T) {
	f := newFront(t, router.Config{})
	entered := make(chan struct{})
	f.local(t, "echo", &echo{unary: func(ctx context.Context, _ string, _ message) (message, error) {
		close(entered)
		<-ctx.Done()
		return message{}, context.Cause(ctx)
	}}, echoName)
	slow := f.start(t, "Do", "")
	<-entered
	if err := f.closeWithin(t, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	want(t, (<-slow).err, codes.Unavailable, "host_stopping")
}

// TestCloseWaits for a call that does not heed its context.
func TestCloseWaits(t *testing.T) {
	f := newFront(t, router.Config{})
	entered, proceed := make(chan struct{}), make(chan struct{})
	f.local(t, "echo", &echo{unary: func(_ context.Context, _ string, in message) (message, error) {
		close(entered)
		<-proceed
		return in, nil
	}}, echoName)
	slow := f.start(t, "Do", "done")
	<-entered
	if err := f.closeWithin(t, time.Millisecond); err == nil {
		t.Error("Close did not wait for a call in flight")
	}
	close(proceed)
	if a := <-slow; a.err != nil || a.text != "done" {
		t.Errorf("got %q, %v", a.text, a.err)
	}
	if err := f.closeWithin(t, 20*time.Second); err != nil {
		t.Error(err)
	}
}

// TestGracefulStop is how a host stops: what can end does, the rest is ended.
func TestGracefulStop(t *testing.T) {
	r, err := router.New(router.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var server *grpc.Server
	f := &front{Router: r, conn: serve(t, func(s *grpc.Server) { server = s }, r.ServerOptions()...)}
	entered, proceed := make(chan struct{}, 1), make(chan struct{})
	f.local(t, "echo", held("finished", entered, proceed), echoName)
	slow := f.start(t, "Do", "wait")
	<-entered
	chat := f.open(t.Context(), t, "Chat")
	exchangeOne(t, chat)
	stopped := make(chan struct{})
	go func() {
		server.GracefulStop()
		close(stopped)
	}()
	close(proceed)
	if a := <-slow; a.err != nil || a.text != "finished" {
		t.Errorf("got %q, %v", a.text, a.err)
	}
	if err := f.closeWithin(t, 20*time.Second); err != nil {
		t.Error(err)
	}
	_, err = chat.recv()
	want(t, err, codes.Unavailable, "host_stopping")
	<-stopped
}
