package router_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/conclavehq/conclave/core/pipeline"
	"github.com/conclavehq/conclave/internal/router"
)

const echoName, otherName = "routertest.EchoService", "routertest.OtherService"

func service(tb testing.TB, name string) protoreflect.ServiceDescriptor {
	tb.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		tb.Fatal(err)
	}
	return d.(protoreflect.ServiceDescriptor)
}

// serve starts a grpc.Server on loopback and returns a connection to it. Both end
// with the test.
func serve(tb testing.TB, register func(*grpc.Server), opts ...grpc.ServerOption) *grpc.ClientConn {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	server := grpc.NewServer(opts...)
	if register != nil {
		register(server)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient("passthrough:///"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		conn.Close()
		server.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			tb.Errorf("serve: %v", err)
		}
	})
	return conn
}

// A front is a router that serves, and a connection to it.
type front struct {
	*router.Router
	conn grpc.ClientConnInterface
}

// pipe lets the front's unary calls travel in a pipeline from now on.
func (f *front) pipe(tb testing.TB) *front {
	tb.Helper()
	g := f.Registrar("host", router.AllowReserved())
	g.Pipeline()
	if err := g.Publish(); err != nil {
		tb.Fatal(err)
	}
	p := pipeline.New(f.conn)
	tb.Cleanup(func() { p.Close() })
	if err := p.Ready(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	f.conn = p
	return f
}

func newFront(tb testing.TB, cfg router.Config) *front {
	tb.Helper()
	r, err := router.New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	r.SetServing(true)
	tb.Cleanup(func() { // after the server's own clean-up: transports let go of what was left
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := r.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	return &front{Router: r, conn: serve(tb, nil, r.ServerOptions()...)}
}

// local publishes services of the test's that e implements.
func (f *front) local(tb testing.TB, owner string, e *echo, names ...string) *router.Registrar {
	tb.Helper()
	g := f.Registrar(owner)
	for _, name := range names {
		g.RegisterService(serviceDesc(service(tb, name)), e)
	}
	if err := g.Publish(); err != nil {
		tb.Fatal(err)
	}
	return g
}

// call makes a unary call of the test's service.
func (f *front) call(tb testing.TB, method, text string, opts ...grpc.CallOption) (string, error) {
	tb.Helper()
	return f.callIn(tb.Context(), tb, method, text, opts...)
}

func (f *front) callIn(ctx context.Context, tb testing.TB, method, text string, opts ...grpc.CallOption) (string, error) {
	tb.Helper()
	md := service(tb, echoName).Methods().ByName("Do").Input()
	return f.invoke(ctx, "/"+echoName+"/"+method, newMessage(md, text), opts...)
}

func (f *front) invoke(ctx context.Context, full string, in message, opts ...grpc.CallOption) (string, error) {
	out := newMessage(in.Descriptor(), "")
	err := f.conn.Invoke(ctx, full, in.Message, out.Message, opts...)
	return out.text(), err
}

// rawCodec sends and receives bytes as they are.
type rawCodec struct{}

func (rawCodec) Name() string { return "proto" }

func (rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (rawCodec) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}
