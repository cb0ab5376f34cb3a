package router_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/internal/router"
)

func names(f *front) string {
	var list []string
	for _, s := range f.Services() {
		if s.Owner != "" {
			list = append(list, s.Owner+":"+string(s.Descriptor.FullName()))
		}
	}
	return strings.Join(list, " ")
}

func TestAllOrNone(t *testing.T) {
	f := newFront(t, router.Config{})
	g := f.Registrar("a")
	g.RegisterService(serviceDesc(service(t, otherName)), &echo{})
	if got := names(f); got != "" {
		t.Errorf("before Publish: got %s", got)
	}
	if err := g.Publish(); err != nil {
		t.Fatal(err)
	}
	b := f.Registrar("b")
	b.RegisterService(serviceDesc(service(t, echoName)), &echo{})
	b.RegisterService(serviceDesc(service(t, otherName)), &echo{})
	err := b.Publish()
	if !errors.Is(err, router.ErrDuplicate) || !strings.Contains(err.Error(), otherName) || !strings.Contains(err.Error(), `"a"`) {
		t.Errorf("got %v, want an error that names the service and its owner", err)
	}
	if got := names(f); got != "a:"+otherName {
		t.Errorf("got %s, want what was there before", got)
	}
	g.Withdraw()
	if err := b.Publish(); err != nil {
		t.Errorf("after the other one was withdrawn: got %v", err)
	}
	if got := names(f); got != "b:"+echoName+" b:"+otherName {
		t.Errorf("got %s", got)
	}
	g.Withdraw() // once more: does nothing to b
	if got := names(f); got != "b:"+echoName+" b:"+otherName {
		t.Errorf("got %s", got)
	}
}

func TestRefused(t *testing.T) {
	f := newFront(t, router.Config{})
	for name, c := range map[string]struct {
		register func(g *router.Registrar)
		is       error
		says     string
	}{
		"reserved for sessions": {func(g *router.Registrar) {
			sessionv1.RegisterSessionServiceServer(g, sessionv1.UnimplementedSessionServiceServer{})
		}, router.ErrReserved, "conclave.session.v1.SessionService"},
		"reserved for gRPC": {func(g *router.Registrar) {
			healthpb.RegisterHealthServer(g, healthpb.UnimplementedHealthServer{})
		}, router.ErrReserved, "grpc.health.v1.Health"},
		"reserved behind a proxy": {func(g *router.Registrar) {
			g.Proxy(healthpb.File_grpc_health_v1_health_proto.Services().Get(0))
		}, router.ErrReserved, "grpc.health.v1.Health"},
		"twice": {func(g *router.Registrar) {
			g.RegisterService(serviceDesc(service(t, echoName)), &echo{})
			g.Proxy(service(t, echoName))
		}, router.ErrDuplicate, echoName},
		"without a descriptor": {func(g *router.Registrar) {
			g.RegisterService(&grpc.ServiceDesc{ServiceName: "hand.made.Service"}, &echo{})
		}, nil, "hand.made.Service"},
		"no service": {func(g *router.Registrar) {
			g.RegisterService(&grpc.ServiceDesc{ServiceName: "routertest.Message"}, &echo{})
		}, nil, "routertest.Message"},
		"unknown method": {func(g *router.Registrar) {
			desc := serviceDesc(service(t, otherName))
			desc.Methods[0].MethodName = "Undo"
			g.RegisterService(desc, &echo{})
		}, nil, "Undo"},
		"no such session field":         {func(g *router.Registrar) { g.Proxy(withSessionField(t, "nobody").Services().Get(1)) }, nil, "nobody"},
		"session field of another type": {func(g *router.Registrar) { g.Proxy(withSessionField(t, "number").Services().Get(1)) }, nil, "number"},
	} {
		t.Run(name, func(t *testing.T) {
			g := f.Registrar("bad")
			g.RegisterService(serviceDesc(service(t, otherName)), &echo{})
			c.register(g)
			err := g.Publish()
			if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want one that names %s", err, c.says)
			}
			if got := names(f); got != "" {
				t.Errorf("published all the same: %s", got)
			}
		})
	}
}

// withSessionField describes services whose OtherService names a session field.
func withSessionField(t *testing.T, name string) protoreflect.FileDescriptor {
	t.Helper()
	file, err := buildFile("fieldtest", func(f *descriptorpb.FileDescriptorProto) {
		options := &descriptorpb.MethodOptions{}
		proto.SetExtension(options, recipev1.E_Method, &recipev1.Method{SessionField: name})
		f.Service[1].Method[0].Options = options
		number := proto.Clone(f.MessageType[0].Field[0]).(*descriptorpb.FieldDescriptorProto)
		number.Name, number.JsonName, number.Number = new("number"), new("number"), new(int32(9))
		number.Type = descriptorpb.FieldDescriptorProto_TYPE_INT64.Enum()
		f.MessageType[0].Field = append(f.MessageType[0].Field, number)
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func TestOwnOfTheHost(t *testing.T) {
	f := newFront(t, router.Config{})
	g := f.Registrar("host", router.AllowReserved())
	sessionv1.RegisterSessionServiceServer(g, sessionv1.UnimplementedSessionServiceServer{})
	if err := g.Publish(); err != nil {
		t.Fatal(err)
	}
	_, err := sessionv1.NewSessionServiceClient(f.conn).Open(t.Context(), &sessionv1.OpenRequest{})
	want(t, err, codes.Unimplemented, "")
	if got := g.Services(); len(got) != 1 || got[0].FullName() != "conclave.session.v1.SessionService" {
		t.Errorf("got services %v", got)
	}
}

func TestTooLate(t *testing.T) {
	log := new(logged)
	f := newFront(t, router.Config{Log: log.logger()})
	g := f.local(t, "echo", &echo{}, echoName)
	g.RegisterService(serviceDesc(service(t, otherName)), &echo{})
	if got := names(f); got != "echo:"+echoName {
		t.Errorf("got %s", got)
	}
	if !strings.Contains(log.String(), otherName) {
		t.Errorf("the log does not name the service that was refused: %s", log)
	}
	if err := g.Publish(); !errors.Is(err, router.ErrPublished) {
		t.Errorf("second Publish: got %v", err)
	}
}

// held answers with a text once it may go on.
func held(text string, entered chan<- struct{}, proceed <-chan struct{}) *echo {
	return &echo{unary: func(ctx context.Context, _ string, in message) (message, error) {
		if in.text() != "wait" {
			return newMessage(in.Descriptor(), text), nil
		}
		entered <- struct{}{}
		select {
		case <-proceed:
			return newMessage(in.Descriptor(), text), nil
		case <-ctx.Done():
			return message{}, ctx.Err()
		}
	}}
}

type answer struct {
	text string
	err  error
}

func (f *front) start(t *testing.T, method, text string) <-chan answer {
	t.Helper()
	answers := make(chan answer, 1)
	go func() {
		got, err := f.call(t, method, text)
		answers <- answer{got, err}
	}()
	return answers
}

func TestReplace(t *testing.T) {
	f := newFront(t, router.Config{})
	entered, proceed := make(chan struct{}, 1), make(chan struct{})
	old := f.local(t, "echo", held("old", entered, proceed), echoName, otherName)
	slow := f.start(t, "Do", "wait")
	<-entered

	f.local(t, "echo", held("new", nil, nil), echoName)
	if got, err := f.call(t, "Do", ""); err != nil || got != "new" {
		t.Errorf("got %q, %v", got, err)
	}
	if got := names(f); got != "echo:"+echoName {
		t.Errorf("got %s, want the services of the new one alone", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := old.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Drain with a call in flight: got %v", err)
	}
	old.Withdraw() // does nothing to the new one
	close(proceed)
	if a := <-slow; a.err != nil || a.text != "old" {
		t.Errorf("the call in flight: got %q, %v", a.text, a.err)
	}
	if err := old.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	if got, err := f.call(t, "Do", ""); err != nil || got != "new" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestWithdraw(t *testing.T) {
	f := newFront(t, router.Config{})
	entered := make(chan struct{}, 2)
	e := held("", entered, nil)
	g := f.local(t, "echo", e, echoName)
	f.local(t, "other", e, otherName)
	slow := f.start(t, "Do", "wait")
	<-entered
	untouched := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := f.invoke(ctx, "/"+otherName+"/Do", newMessage(service(t, otherName).Methods().Get(0).Input(), "wait"))
		untouched <- err
	}()
	<-entered
	chat := f.open(t.Context(), t, "Chat")
	exchangeOne(t, chat)
	g.Withdraw()
	_, err := f.call(t, "Do", "")
	want(t, err, codes.Unimplemented, "unknown_method")
	exchangeOne(t, chat) // goes on
	g.CancelStreams()
	_, err = chat.recv()
	want(t, err, codes.Unavailable, "recipe_restarting")
	select {
	case a := <-slow:
		t.Errorf("a call that is no stream ended with them: %q, %v", a.text, a.err)
	default:
	}
	g.Cancel()
	want(t, (<-slow).err, codes.Unavailable, "recipe_restarting")
	if err := g.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	until(t, func() bool { return router.InFlight(f.Router) == 1 }) // the other recipe's
	cancel()
	want(t, <-untouched, codes.Canceled, "") // by its caller
}

// TestNoOwner does not take the place of the router's own services.
func TestNoOwner(t *testing.T) {
	f := newFront(t, router.Config{})
	f.local(t, "", &echo{}, echoName)
	if _, err := healthpb.NewHealthClient(f.conn).Check(t.Context(), &healthpb.HealthCheckRequest{Service: echoName}); err != nil {
		t.Error(err)
	}
}

func exchangeOne(t *testing.T, s clientStream) {
	t.Helper()
	if err := s.send("x"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.recv(); err != nil || got != "x" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestSuspend(t *testing.T) {
	f := newFront(t, router.Config{Hold: time.Hour})
	f.local(t, "echo", &echo{}, echoName).Suspend()
	waiting := f.start(t, "Do", "hello")
	until(t, func() bool { return router.InFlight(f.Router) == 1 })
	f.local(t, "echo", held("new", nil, nil), echoName)
	if a := <-waiting; a.err != nil || a.text != "new" {
		t.Errorf("the held call: got %q, %v", a.text, a.err)
	}
}

func TestSuspendedForTooLong(t *testing.T) {
	for _, hold := range []time.Duration{-1, time.Millisecond} {
		f := newFront(t, router.Config{Hold: hold})
		g := f.local(t, "echo", &echo{}, echoName)
		g.Suspend()
		_, err := f.call(t, "Do", "")
		want(t, err, codes.Unavailable, "recipe_restarting")
		g.Withdraw()
		_, err = f.call(t, "Do", "")
		want(t, err, codes.Unimplemented, "unknown_method")
	}
}
