// Package servicetest runs a recipe for its tests: behind gRPC, as a host does, on
// a client that may touch the recipe's keys only. It is a test kit: no package that
// is not a test imports it.
package servicetest

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
)

// Patience bounds every wait; a test that reaches it fails.
const Patience = 2 * time.Minute

// Context returns a context that ends with the test, or when it has waited too
// long.
func Context(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	tb.Cleanup(cancel)
	return ctx
}

// A Host serves one recipe.
type Host struct {
	Addr     string           // where it serves gRPC
	Conn     *grpc.ClientConn // a connection to it
	Space    *scope.Space     // what the recipe may touch
	Instance recipe.Instance

	server *grpc.Server
	once   sync.Once
}

// Start opens a recipe on an etcd, under its own name, and serves it until the test
// ends. The test fails if the recipe tried what its guard refuses.
func Start(tb testing.TB, r recipe.Recipe, back scope.Backend, cfg proto.Message) *Host {
	tb.Helper()
	name := r.Info().Name
	space, err := scope.New(back, name, nil)
	if err != nil {
		tb.Fatal(err)
	}
	env := recipe.NewEnv(name, space.Client(), cfg, nil)
	h := &Host{Space: space, server: grpc.NewServer()}
	if h.Instance, err = r.Open(Context(tb), env, h.server); err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- h.server.Serve(l) }()
	h.Addr = l.Addr().String()
	h.Conn = Dial(tb, h.Addr)
	tb.Cleanup(func() {
		h.Stop(tb)
		if err := <-done; err != nil && !errors.Is(err, grpc.ErrServerStopped) { // which is so if it had not begun
			tb.Error(err)
		}
		env.Close()
		if refused := space.Refusals(); len(refused) > 0 {
			tb.Errorf("the guard refused %v", refused)
		}
		if err := space.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// Stop ends the host as an orderly host ends. It is idempotent.
func (h *Host) Stop(tb testing.TB) {
	tb.Helper()
	h.once.Do(func() {
		h.StopInstance(tb)
		h.server.GracefulStop()
	})
}

// StopInstance closes the recipe's instance, and serves on. It is idempotent.
func (h *Host) StopInstance(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	if err := h.Instance.Close(ctx); err != nil {
		tb.Errorf("close the instance: %v", err)
	}
}

// Dial returns a connection that ends with the test.
func Dial(tb testing.TB, addr string) *grpc.ClientConn {
	tb.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Want ends the test unless an error has this code and reason.
func Want(tb testing.TB, err error, code codes.Code, reason string) {
	tb.Helper()
	if status.Code(err) != code || recipe.Reason(err) != reason {
		tb.Fatalf("error is %v with the reason %q, want %v with %q", err, recipe.Reason(err), code, reason)
	}
}

// Must returns what a call answered, and ends the test if that was an error.
func Must[T any](tb testing.TB) func(T, error) T {
	return func(answer T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return answer
	}
}

// Eventually waits until something is so.
func Eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	deadline := time.After(Patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatalf("still not so: %s", what)
		}
	}
}
