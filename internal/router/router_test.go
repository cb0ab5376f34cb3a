package router_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclavehq/conclave/internal/reason"
	"github.com/conclavehq/conclave/internal/router"
)

// backends runs a test with the services in this process, and with the services
// in another server behind a proxy.
func backends(t *testing.T, cfg router.Config, e *echo, test func(t *testing.T, f *front)) {
	t.Helper()
	t.Run("local", func(t *testing.T) {
		f := newFront(t, cfg)
		f.local(t, "echo", e, echoName)
		test(t, f)
	})
	t.Run("proxy", func(t *testing.T) {
		f := newFront(t, cfg)
		away := serve(t, func(s *grpc.Server) { s.RegisterService(serviceDesc(service(t, echoName)), e) })
		f.proxy(t, "echo").Connect(away, nil)
		test(t, f)
	})
	t.Run("pipeline", func(t *testing.T) {
		f := newFront(t, cfg).pipe(t)
		f.local(t, "echo", e, echoName)
		test(t, f)
	})
	t.Run("pipeline, proxy", func(t *testing.T) {
		f := newFront(t, cfg).pipe(t)
		away := serve(t, func(s *grpc.Server) { s.RegisterService(serviceDesc(service(t, echoName)), e) })
		f.proxy(t, "echo").Connect(away, nil)
		test(t, f)
	})
	t.Run("router behind", func(t *testing.T) {
		f := newFront(t, cfg)
		behind := newFront(t, router.Config{Trusted: true})
		behind.local(t, "echo", e, echoName)
		f.proxy(t, "echo").Connect(behind.conn, nil)
		test(t, f)
	})
}

// proxy publishes the echo service behind a proxy.
func (f *front) proxy(tb testing.TB, owner string) *router.Proxy {
	tb.Helper()
	g := f.Registrar(owner)
	p := g.Proxy(service(tb, echoName))
	if err := g.Publish(); err != nil {
		tb.Fatal(err)
	}
	return p
}

// open opens a stream of the test's service.
func (f *front) open(ctx context.Context, tb testing.TB, method string, opts ...grpc.CallOption) clientStream {
	tb.Helper()
	md := service(tb, echoName).Methods().ByName("Do")
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	s, err := f.conn.NewStream(ctx, desc, "/"+echoName+"/"+method, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	return clientStream{s, func(text string) message { return newMessage(md.Input(), text) }}
}

type clientStream struct {
	grpc.ClientStream
	message func(text string) message
}

func (s clientStream) send(text string) error { return s.SendMsg(s.message(text).Message) }

func (s clientStream) recv() (string, error) {
	m := s.message("")
	err := s.RecvMsg(m.Message)
	return m.text(), err
}

// want checks an error's code, and its reason both ways that it is given.
func want(tb testing.TB, err error, code codes.Code, why string) {
	tb.Helper()
	st := status.Convert(err)
	if st.Code() != code {
		tb.Errorf("got %v, want code %v", err, code)
	}
	if why == "" {
		return
	}
	if got := reason.Of(err); got != why || !strings.HasPrefix(st.Message(), why+": ") {
		tb.Errorf("got reason %q and message %q, want both to say %s", got, st.Message(), why)
	}
}

func TestCalls(t *testing.T) {
	backends(t, router.Config{}, &echo{}, func(t *testing.T, f *front) {
		if got, err := f.call(t, "Do", "hello"); err != nil || got != "hello" {
			t.Errorf("unary: got %q, %v", got, err)
		}
		if got, err := f.call(t, "Do", ""); err != nil || got != "" {
			t.Errorf("unary with an empty message: got %q, %v", got, err)
		}
		large := strings.Repeat("x", 900<<10)
		if got, err := f.call(t, "Do", large); err != nil || got != large {
			t.Errorf("unary with a large message: got %d bytes, %v", len(got), err)
		}
		watch := f.open(t.Context(), t, "Watch")
		exchange(t, watch, true, "one")
		chat := f.open(t.Context(), t, "Chat")
		exchange(t, chat, false, "one", "two", large, "three")
		collect := f.open(t.Context(), t, "Collect")
		for _, text := range []string{"one", "two", "three"} {
			if err := collect.send(text); err != nil {
				t.Fatal(err)
			}
		}
		if err := collect.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if got, err := collect.recv(); err != nil || got != "three" {
			t.Errorf("client stream: got %q, %v", got, err)
		}
		if _, err := collect.recv(); !errors.Is(err, io.EOF) {
			t.Errorf("client stream: got %v, want its end", err)
		}
	})
}

// exchange sends texts, each after the answer to the one before, and wants the
// end of the stream after them; early: before the caller ends its side.
func exchange(t *testing.T, s clientStream, early bool, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := s.send(text); err != nil {
			t.Fatal(err)
		}
		if got, err := s.recv(); err != nil || got != text {
			t.Fatalf("stream: got %d bytes, %v", len(got), err)
		}
	}
	if !early {
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.recv(); !errors.Is(err, io.EOF) {
		t.Errorf("stream: got %v, want its end", err)
	}
}

func TestWhatTravels(t *testing.T) {
	detailed, err := status.New(codes.Aborted, "locked: by another").WithDetails(
		&errdetails.ErrorInfo{Reason: "locked", Domain: reason.Domain}, durationpb.New(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{unary: func(ctx context.Context, _ string, in message) (message, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		header := metadata.Pairs("x-key", first(md, "x-key"), "x-key-bin", first(md, "x-key-bin"))
		if err := grpc.SetHeader(ctx, header); err != nil {
			return message{}, err
		}
		if err := grpc.SetTrailer(ctx, metadata.Pairs("x-trailer", "t")); err != nil {
			return message{}, err
		}
		if in.text() == "fail" {
			return message{}, detailed.Err()
		}
		end, ok := ctx.Deadline()
		if !ok || time.Until(end) > time.Hour {
			return message{}, errors.New("the deadline did not arrive")
		}
		return in, nil
	}}
	backends(t, router.Config{}, e, func(t *testing.T, f *front) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		ctx = metadata.AppendToOutgoingContext(ctx, "x-key", "v", "x-key-bin", "\x00\xff")
		var header, trailer metadata.MD
		if _, err := f.callIn(ctx, t, "Do", "", grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
			t.Fatal(err)
		}
		if first(header, "x-key") != "v" || first(header, "x-key-bin") != "\x00\xff" || first(trailer, "x-trailer") != "t" {
			t.Errorf("got header %v and trailer %v", header, trailer)
		}
		_, err := f.callIn(ctx, t, "Do", "fail", grpc.Header(&header), grpc.Trailer(&trailer))
		want(t, err, codes.Aborted, "locked")
		details := status.Convert(err).Details()
		if len(details) != 2 {
			t.Fatalf("got %d details, want 2", len(details))
		}
		if d, ok := details[1].(*durationpb.Duration); !ok || d.AsDuration() != time.Second {
			t.Errorf("got detail %v", details[1])
		}
		// gRPC's client shows the status's own details; a second value would be a trailer.
		if first(trailer, "x-trailer") != "t" || len(trailer.Get("grpc-status-details-bin")) > 1 {
			t.Errorf("got trailer %v of the failed call", trailer)
		}
	})
}

func first(md metadata.MD, key string) string {
	if v := md.Get(key); len(v) > 0 {
		return v[0]
	}
	return ""
}

func TestCallersEnd(t *testing.T) {
	entered, left := make(chan string, 1), make(chan error, 1)
	e := &echo{
		unary: func(ctx context.Context, method string, _ message) (message, error) {
			entered <- method
			<-ctx.Done()
			left <- ctx.Err()
			return message{}, ctx.Err()
		},
		stream: func(method string, s echoStream) error {
			entered <- method
			for {
				if _, err := s.recv(); err != nil && !errors.Is(err, io.EOF) {
					left <- err
					return err
				} else if err != nil {
					<-s.Context().Done()
				}
			}
		},
	}
	backends(t, router.Config{}, e, func(t *testing.T, f *front) {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-entered
			cancel()
		}()
		_, err := f.callIn(ctx, t, "Do", "")
		want(t, err, codes.Canceled, "")
		if err := <-left; err == nil {
			t.Error("the service was not told")
		}

		ctx, cancel = context.WithCancel(t.Context())
		chat := f.open(ctx, t, "Chat")
		<-entered
		cancel()
		_, err = chat.recv()
		want(t, err, codes.Canceled, "")
		if err := <-left; err == nil {
			t.Error("the service was not told")
		}
	})
}

func TestUnknown(t *testing.T) {
	f := newFront(t, router.Config{})
	f.local(t, "echo", &echo{}, echoName)
	md := service(t, echoName).Methods().ByName("Do").Input()
	for _, full := range []string{"/nobody.Service/Do", "/" + echoName + "/Undo", "/" + otherName + "/Do", "/x", "//"} {
		_, err := f.invoke(t.Context(), full, newMessage(md, ""))
		want(t, err, codes.Unimplemented, "")
	}
	_, err := f.invoke(t.Context(), "/nobody.Service/Do", newMessage(md, ""))
	want(t, err, codes.Unimplemented, "unknown_method")
}

func TestBadMessages(t *testing.T) {
	f := newFront(t, router.Config{})
	f.local(t, "echo", &echo{}, echoName)
	for _, b := range []string{"\x0a\x05no", "\x0a\x02\xff\xff", "\xff"} {
		_, err := f.raw(t, "Do", []byte(b))
		want(t, err, codes.InvalidArgument, "invalid_request")
	}
	chat := f.open(t.Context(), t, "Chat", grpc.ForceCodecV2(rawCodec{}))
	bad := []byte("\xff")
	if err := chat.SendMsg(&bad); err != nil {
		t.Fatal(err)
	}
	var none []byte
	want(t, chat.RecvMsg(&none), codes.InvalidArgument, "invalid_request")
}

func TestNoMessage(t *testing.T) {
	backends(t, router.Config{}, &echo{}, func(t *testing.T, f *front) {
		s := f.open(t.Context(), t, "Do")
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		_, err := s.recv()
		want(t, err, codes.InvalidArgument, "invalid_request")
	})
}

// raw makes a call with bytes that need not be a message.
func (f *front) raw(tb testing.TB, method string, b []byte) ([]byte, error) {
	tb.Helper()
	var out []byte
	err := f.conn.Invoke(tb.Context(), "/"+echoName+"/"+method, &b, &out, grpc.ForceCodecV2(rawCodec{}))
	return out, err
}

func TestUse(t *testing.T) {
	var seen []string
	mark := func(name string) grpc.StreamServerInterceptor {
		return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			m := router.MethodFrom(ss.Context())
			seen = append(seen, name+" "+info.FullMethod+" "+m.Service()+" "+m.Owner)
			return next(srv, ss)
		}
	}
	f := newFront(t, router.Config{})
	f.local(t, "echo", &echo{}, echoName)
	f.Use(mark("a"), mark("b"))
	f.Use(mark("c"))
	if _, err := f.call(t, "Do", ""); err != nil {
		t.Fatal(err)
	}
	rest := " /" + echoName + "/Do " + echoName + " echo"
	if got := strings.Join(seen, ","); got != "a"+rest+",b"+rest+",c"+rest {
		t.Errorf("got %s", got)
	}
	if router.MethodFrom(t.Context()) != nil {
		t.Error("a context of no call has a method")
	}
}
