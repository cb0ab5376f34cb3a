package edge_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/conclavehq/conclave/core/recipe"
)

// A way is how connect-go speaks.
type way struct {
	name    string
	options []connect.ClientOption
	grpc    bool // native gRPC, which needs HTTP/2
}

func ways() []way {
	return []way{
		{name: "connect json", options: []connect.ClientOption{connect.WithProtoJSON()}},
		{name: "connect proto"},
		{name: "connect proto gzip", options: []connect.ClientOption{connect.WithSendGzip()}},
		{name: "connect json gzip", options: []connect.ClientOption{connect.WithProtoJSON(), connect.WithSendGzip()}},
		{name: "connect get", options: []connect.ClientOption{connect.WithHTTPGet(), connect.WithProtoJSON()}},
		{name: "connect get gzip", options: []connect.ClientOption{connect.WithHTTPGet(), connect.WithSendGzip()}},
		{name: "grpc-web", options: []connect.ClientOption{connect.WithGRPCWeb()}},
		{name: "grpc-web json", options: []connect.ClientOption{connect.WithGRPCWeb(), connect.WithProtoJSON()}},
		{name: "grpc-web gzip", options: []connect.ClientOption{connect.WithGRPCWeb(), connect.WithSendGzip()}},
		{name: "grpc", options: []connect.ClientOption{connect.WithGRPC()}, grpc: true},
		{name: "grpc gzip", options: []connect.ClientOption{connect.WithGRPC(), connect.WithSendGzip()}, grpc: true},
		{name: "grpc json", options: []connect.ClientOption{connect.WithGRPC(), connect.WithProtoJSON()}, grpc: true},
	}
}

type caller struct {
	*server

	t       *testing.T
	clients *http.Client
	way     way
}

func (c caller) method(name protoreflect.Name) *connect.Client[dynamicpb.Message, dynamicpb.Message] {
	md := c.sd.Methods().ByName(name)
	options := append([]connect.ClientOption{
		connect.WithSchema(md),
		connect.WithResponseInitializer(func(_ connect.Spec, m any) error {
			if m, ok := m.(*dynamicpb.Message); ok {
				*m = *dynamicpb.NewMessage(md.Output())
			}
			return nil
		}),
	}, c.way.options...)
	if name == "Read" {
		options = append(options, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
	}
	return connect.NewClient[dynamicpb.Message, dynamicpb.Message](c.clients, fmt.Sprintf("%s/edge.test.v1.EchoService/%s", c.url(), name), options...)
}

func TestClients(t *testing.T) {
	t.Parallel()
	kinds := map[string]serverOptions{"plain": {}, "tls": {tls: true}, "http only": {httpOnly: true}}
	for kind, options := range kinds {
		s := start(t, options)
		for _, over := range []transport{http1, http2} {
			clients := s.client(t, over)
			for _, way := range ways() {
				if way.grpc && over == http1 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", kind, over, way.name), func(t *testing.T) {
					c := caller{server: s, t: t, clients: clients, way: way}
					t.Run("unary", func(*testing.T) { c.unary("Echo") })
					t.Run("read", func(*testing.T) { c.unary("Read") })
					t.Run("error", func(*testing.T) { c.failure() })
					t.Run("server stream", func(*testing.T) { c.serverStream() })
					t.Run("client stream", func(*testing.T) { c.clientStream() })
					if over == http2 {
						t.Run("both ways", func(*testing.T) { c.bidi() })
					} else {
						t.Run("both ways over HTTP/1.1", func(*testing.T) { c.bidiRefused() })
					}
				})
			}
		}
	}
}

func (c caller) unary(name protoreflect.Name) {
	c.t.Helper()
	r := connect.NewRequest(c.named("a", 9007199254740993))
	r.Header().Set("X-Want", "this")
	r.Header().Set("X-Want-Bin", connect.EncodeBinaryHeader([]byte{0, 255}))
	answer, err := c.method(name).CallUnary(within(c.t), r)
	if err != nil {
		c.t.Fatal(err)
	}
	if got := answer.Msg.Get(c.field("count")).Int(); got != 9007199254740993 {
		c.t.Errorf("count is %d", got)
	}
	if got := answer.Header().Get("X-Got") + answer.Trailer().Get("X-After"); got != "thisthis" {
		c.t.Errorf("header and trailer are %q", got)
	}
	raw, err := connect.DecodeBinaryHeader(answer.Trailer().Get("X-After-Bin"))
	if err != nil || string(raw) != "\x00\xff" {
		c.t.Errorf("binary trailer is %q, %v", raw, err)
	}
}

func (c caller) failure() {
	c.t.Helper()
	m := c.named("x", 0)
	m.Set(c.field("fail"), protoreflect.ValueOfInt32(int32(codes.FailedPrecondition)))
	r := connect.NewRequest(m)
	r.Header().Set("X-Want", "this")
	_, err := c.method("Echo").CallUnary(within(c.t), r)
	c.checkError(err)
	var told *connect.Error
	if errors.As(err, &told) && (told.Meta().Get("X-Got") != "this" || told.Meta().Get("X-After") != "this") {
		c.t.Errorf("the error's metadata is %v", told.Meta())
	}
}

func (c caller) checkError(err error) {
	c.t.Helper()
	var told *connect.Error
	if !errors.As(err, &told) {
		c.t.Fatalf("error is %v", err)
	}
	if told.Code() != connect.CodeFailedPrecondition || told.Message() != `asked_to: fail with 100% of 9, as "x" wants: ü` {
		c.t.Errorf("error is %v", told)
	}
	if len(told.Details()) != 1 {
		c.t.Fatalf("%d details, want 1", len(told.Details()))
	}
	detail, err := told.Details()[0].Value()
	if info, ok := detail.(*errdetails.ErrorInfo); err != nil || !ok || info.GetReason() != "asked_to" {
		c.t.Errorf("detail is %v, %v", detail, err)
	}
}

func (c caller) serverStream() {
	c.t.Helper()
	m := c.named("x", 3)
	m.Set(c.field("fail"), protoreflect.ValueOfInt32(int32(codes.FailedPrecondition)))
	stream, err := c.method("Count").CallServerStream(within(c.t), connect.NewRequest(m))
	if err != nil {
		c.t.Fatal(err)
	}
	defer stream.Close()
	for i := range int64(3) {
		if !stream.Receive() {
			c.t.Fatalf("message %d is missing: %v", i, stream.Err())
		}
		if got := stream.Msg().Get(c.field("count")).Int(); got != i {
			c.t.Errorf("message %d says %d", i, got)
		}
	}
	if stream.Receive() {
		c.t.Error("a message too many")
	}
	c.checkError(stream.Err())
	if got := stream.ResponseTrailer().Get("X-After"); got != "counted" {
		c.t.Errorf("trailer is %q", got)
	}
}

func (c caller) clientStream() {
	c.t.Helper()
	stream := c.method("Sum").CallClientStream(within(c.t))
	for i := range int64(4) {
		if err := stream.Send(c.named("n", i)); err != nil {
			c.t.Fatal(err)
		}
	}
	answer, err := stream.CloseAndReceive()
	if err != nil {
		c.t.Fatal(err)
	}
	if got := answer.Msg.Get(c.field("count")).Int(); got != 6 {
		c.t.Errorf("sum is %d, want 6", got)
	}
}

func (c caller) bidi() {
	c.t.Helper()
	stream := c.method("Chat").CallBidiStream(within(c.t))
	for i := range int64(3) {
		if err := stream.Send(c.named("n", i)); err != nil {
			c.t.Fatal(err)
		}
		m, err := stream.Receive()
		if err != nil {
			c.t.Fatal(err)
		}
		if got := m.Get(c.field("count")).Int(); got != i {
			c.t.Errorf("answer %d says %d", i, got)
		}
	}
	if err := stream.CloseRequest(); err != nil {
		c.t.Fatal(err)
	}
	if m, err := stream.Receive(); err == nil {
		c.t.Errorf("a message too many: %v", m)
	}
	if err := stream.CloseResponse(); err != nil {
		c.t.Fatal(err)
	}
}

func (c caller) bidiRefused() {
	c.t.Helper()
	stream := c.method("Chat").CallBidiStream(within(c.t))
	_ = stream.Send(c.named("n", 1)) // may fail already
	_, err := stream.Receive()
	if err == nil || connect.CodeOf(err) == connect.CodeDeadlineExceeded {
		c.t.Errorf("a stream in both directions over HTTP/1.1: %v, want to be refused", err)
	}
	_ = stream.CloseRequest()
	_ = stream.CloseResponse()
}

// TestNative calls with grpc-go through the splitter.
func TestNative(t *testing.T) {
	t.Parallel()
	for kind, options := range map[string]serverOptions{"plain": {}, "tls": {tls: true}, "http only": {httpOnly: true}, "http only tls": {httpOnly: true, tls: true}} {
		t.Run(kind, func(t *testing.T) {
			s := start(t, options)
			conn := s.dial(t)
			ctx := metadata.AppendToOutgoingContext(within(t), "x-want", "this", "x-want-bin", "\x00\xff")
			out, header, trailer := s.message(), metadata.MD{}, metadata.MD{}
			if err := conn.Invoke(ctx, echoPath, s.named("a", 7), out, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
				t.Fatal(err)
			}
			if got := out.Get(s.field("count")).Int(); got != 7 {
				t.Errorf("count is %d", got)
			}
			if header.Get("x-got")[0] != "this" || trailer.Get("x-after-bin")[0] != "\x00\xff" {
				t.Errorf("header is %v, trailer %v", header, trailer)
			}
			wantPeer := "tcp insecure"
			if options.tls {
				wantPeer = "tcp tls"
			} else if options.httpOnly {
				wantPeer = "tcp "
			}
			if got := header.Get("x-peer")[0]; got != wantPeer {
				t.Errorf("peer is %q, want %q", got, wantPeer)
			}
			m := s.named("x", 0)
			m.Set(s.field("fail"), protoreflect.ValueOfInt32(int32(codes.FailedPrecondition)))
			err := conn.Invoke(ctx, echoPath, m, s.message())
			if status.Code(err) != codes.FailedPrecondition || recipe.Reason(err) != "asked_to" {
				t.Errorf("error is %v", err)
			}
			if err := conn.Invoke(ctx, "/edge.test.v1.EchoService/Nope", m, s.message()); status.Code(err) != codes.Unimplemented || recipe.Reason(err) != "unknown_method" {
				t.Errorf("error of an unknown method is %v", err)
			}
			if err := conn.Invoke(ctx, "/no.such.Service/Nope", m, s.message()); status.Code(err) != codes.Unimplemented {
				t.Errorf("error of an unknown service is %v", err)
			}
		})
	}
}

func (s *server) dial(tb testing.TB) *grpc.ClientConn {
	tb.Helper()
	creds := insecure.NewCredentials()
	if s.roots != nil {
		creds = credentials.NewTLS(&tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12})
	}
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}
