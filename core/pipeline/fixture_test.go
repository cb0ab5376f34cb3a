package pipeline_test

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/pipeline"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
)

// patience is for what happens soon; only a failure waits for it.
const patience = time.Minute

// locks is a LockService that does what a test says.
type locks struct {
	lockv1.UnimplementedLockServiceServer

	why     func(ctx context.Context, r *lockv1.WhyRequest) (*lockv1.WhyResponse, error)
	acquire func(ctx context.Context, r *lockv1.AcquireRequest) (*lockv1.AcquireResponse, error)
}

// Why answers with the name, unless the test says otherwise.
func (l *locks) Why(ctx context.Context, r *lockv1.WhyRequest) (*lockv1.WhyResponse, error) {
	if l.why != nil {
		return l.why(ctx, r)
	}
	return &lockv1.WhyResponse{Name: r.GetName()}, nil
}

func (l *locks) Acquire(ctx context.Context, r *lockv1.AcquireRequest) (*lockv1.AcquireResponse, error) {
	return l.acquire(ctx, r)
}

// A host is a router that serves.
type host struct {
	*router.Router

	addr   string
	server *grpc.Server
	end    func()
}

// A setup says what is particular about a host.
type setup struct {
	cfg  router.Config
	addr string // empty: any
	old  bool   // it has no pipelines
}

// serve starts a host that ends with the test.
func serve(tb testing.TB, l *locks, s setup) *host {
	tb.Helper()
	r, err := router.New(s.cfg)
	if err != nil {
		tb.Fatal(err)
	}
	g := r.Registrar("host", router.AllowReserved())
	lockv1.RegisterLockServiceServer(g, l)
	if !s.old {
		g.Pipeline()
	}
	if err := g.Publish(); err != nil {
		tb.Fatal(err)
	}
	r.SetServing(true)
	if s.addr == "" {
		s.addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		tb.Fatal(err)
	}
	h := &host{Router: r, addr: listener.Addr().String(), server: grpc.NewServer(r.ServerOptions()...)}
	served := make(chan error, 1)
	go func() { served <- h.server.Serve(listener) }()
	h.end = sync.OnceFunc(func() { // as a crash would look to its callers
		h.server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			tb.Errorf("serve: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	tb.Cleanup(h.end)
	return h
}

// counted counts the calls that travel alone, and the streams.
type counted struct {
	grpc.ClientConnInterface

	alone, streams atomic.Int64
}

func (c *counted) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	c.alone.Add(1)
	return c.ClientConnInterface.Invoke(ctx, method, args, reply, opts...)
}

func (c *counted) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	c.streams.Add(1)
	return c.ClientConnInterface.NewStream(ctx, desc, method, opts...)
}

// A client calls a host.
type client struct {
	lockv1.LockServiceClient

	conn  *pipeline.Conn
	below *counted
}

// dial returns a client that is not in a pipeline yet.
func dial(tb testing.TB, addr string, opts ...grpc.DialOption) *client {
	tb.Helper()
	conn, err := grpc.NewClient("passthrough:///"+addr, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	if err != nil {
		tb.Fatal(err)
	}
	c := &client{below: &counted{ClientConnInterface: conn}}
	c.conn = pipeline.New(c.below)
	c.LockServiceClient = lockv1.NewLockServiceClient(c.conn)
	tb.Cleanup(func() {
		if err := c.conn.Close(); err != nil {
			tb.Error(err)
		}
		_ = conn.Close()
	})
	return c
}

// piped returns a client whose calls travel in a pipeline.
func piped(tb testing.TB, addr string, opts ...grpc.DialOption) *client {
	tb.Helper()
	c := dial(tb, addr, opts...)
	c.ready(tb)
	return c
}

func (c *client) ready(tb testing.TB) {
	tb.Helper()
	if err := c.conn.Ready(within(tb)); err != nil {
		tb.Fatal(err)
	}
}

// ask calls Why and returns the name that was answered.
func (c *client) ask(ctx context.Context, name string, opts ...grpc.CallOption) (string, error) {
	resp, err := c.Why(ctx, &lockv1.WhyRequest{Name: name}, opts...)
	return resp.GetName(), err
}

// travels checks how many calls have travelled alone.
func (c *client) travels(tb testing.TB, alone int64) {
	tb.Helper()
	if got := c.below.alone.Load(); got != alone {
		tb.Errorf("%d calls travelled alone, want %d", got, alone)
	}
}

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func want(tb testing.TB, err error, code codes.Code, reason string) {
	tb.Helper()
	if status.Code(err) != code || recipe.Reason(err) != reason {
		tb.Errorf("got %v, with the reason %q, want %v with %q", err, recipe.Reason(err), code, reason)
	}
}
