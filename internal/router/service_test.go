package router_test

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
)

// The services of these tests: pkg.EchoService has a method of every kind, and
// pkg.OtherService one. Their one message has the fields text, session_id,
// namespace and padding.
const (
	fieldText = iota + 1
	fieldSession
	fieldNamespace
	fieldPadding
)

// A kind says how a method of the test's service differs from others.
type kind struct {
	up, down   bool // streams
	level      descriptorpb.MethodOptions_IdempotencyLevel
	permission recipev1.Permission
	session    bool
	optional   bool
}

func echoMethods() map[string]kind {
	return map[string]kind{
		"Do":      {permission: recipev1.Permission_PERMISSION_WRITE},
		"Read":    {level: descriptorpb.MethodOptions_NO_SIDE_EFFECTS, permission: recipev1.Permission_PERMISSION_READ},
		"Settle":  {level: descriptorpb.MethodOptions_IDEMPOTENT, permission: recipev1.Permission_PERMISSION_WRITE},
		"Silent":  {},
		"Watch":   {down: true, permission: recipev1.Permission_PERMISSION_READ},
		"Collect": {up: true, permission: recipev1.Permission_PERMISSION_WRITE},
		"Chat":    {up: true, down: true, permission: recipev1.Permission_PERMISSION_WRITE},
		"Own":     {session: true, permission: recipev1.Permission_PERMISSION_WRITE},
		"Maybe":   {session: true, optional: true, permission: recipev1.Permission_PERMISSION_WRITE},
		"OwnChat": {session: true, up: true, down: true, permission: recipev1.Permission_PERMISSION_WRITE},
	}
}

// buildFile describes the services in the package pkg.
func buildFile(pkg string, change ...func(*descriptorpb.FileDescriptorProto)) (protoreflect.FileDescriptor, error) {
	field := func(name string, number int32) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: &name, JsonName: &name, Number: &number,
			Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	echo := &descriptorpb.ServiceDescriptorProto{Name: new("EchoService")}
	for name, k := range echoMethods() {
		options := &descriptorpb.MethodOptions{IdempotencyLevel: k.level.Enum()}
		conclave := &recipev1.Method{Summary: name, Permission: k.permission, SessionOptional: k.optional}
		if k.session {
			conclave.SessionField = "session_id"
		}
		proto.SetExtension(options, recipev1.E_Method, conclave)
		echo.Method = append(echo.Method, &descriptorpb.MethodDescriptorProto{
			Name: new(name), InputType: new("." + pkg + ".Message"), OutputType: new("." + pkg + ".Message"),
			ClientStreaming: &k.up, ServerStreaming: &k.down, Options: options,
		})
	}
	other := &descriptorpb.ServiceDescriptorProto{Name: new("OtherService"), Method: []*descriptorpb.MethodDescriptorProto{
		{Name: new("Do"), InputType: new("." + pkg + ".Message"), OutputType: new("." + pkg + ".Message")},
	}}
	file := &descriptorpb.FileDescriptorProto{
		Name: new(pkg + "/test.proto"), Package: &pkg, Syntax: new("proto3"),
		Dependency: []string{"conclave/recipe/v1/options.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{Name: new("Message"), Field: []*descriptorpb.FieldDescriptorProto{
			field("text", fieldText), field("session_id", fieldSession), field("namespace", fieldNamespace), field("padding", fieldPadding),
		}}},
		Service: []*descriptorpb.ServiceDescriptorProto{echo, other},
	}
	for _, c := range change {
		c(file)
	}
	return protodesc.NewFile(file, protoregistry.GlobalFiles)
}

// A message is the message of the services, of any package.
type message struct {
	*dynamicpb.Message
}

func newMessage(d protoreflect.MessageDescriptor, text string) message {
	return message{dynamicpb.NewMessage(d)}.with(fieldText, text)
}

func (m message) with(number protoreflect.FieldNumber, v string) message {
	m.Set(m.Descriptor().Fields().ByNumber(number), protoreflect.ValueOfString(v))
	return m
}

func (m message) get(number protoreflect.FieldNumber) string {
	return m.Message.Get(m.Descriptor().Fields().ByNumber(number)).String()
}

func (m message) text() string { return m.get(fieldText) }

// An echo is what the services do. A nil function answers with the request, a
// stream with every message of the caller's, and Silent with nothing until its
// context ends.
type echo struct {
	unary  func(ctx context.Context, method string, in message) (message, error)
	stream func(method string, s echoStream) error
}

// An echoStream is a stream of messages.
type echoStream struct {
	grpc.ServerStream
	descriptor protoreflect.MessageDescriptor
}

func (s echoStream) recv() (message, error) {
	m := newMessage(s.descriptor, "")
	return m, s.RecvMsg(m.Message)
}

func (s echoStream) send(text string) error {
	return s.SendMsg(newMessage(s.descriptor, text).Message)
}

func (e *echo) doUnary(ctx context.Context, method string, in message) (message, error) {
	if e.unary != nil {
		return e.unary(ctx, method, in)
	}
	if method == "Silent" {
		<-ctx.Done()
		return message{}, ctx.Err()
	}
	return in, nil
}

func (e *echo) doStream(method string, s echoStream) error {
	if e.stream != nil {
		return e.stream(method, s)
	}
	var last message
	for {
		in, err := s.recv()
		switch {
		case errors.Is(err, io.EOF) && method == "Collect":
			return s.send(last.text())
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		last = in
		if method != "Collect" {
			if err := s.send(in.text()); err != nil {
				return err
			}
		}
		if method == "Watch" {
			return nil
		}
	}
}

// serviceDesc is what generated code would register for a service of file.
func serviceDesc(sd protoreflect.ServiceDescriptor) *grpc.ServiceDesc {
	desc := &grpc.ServiceDesc{ServiceName: string(sd.FullName()), HandlerType: (*any)(nil), Metadata: sd.ParentFile().Path()}
	for i := range sd.Methods().Len() {
		md := sd.Methods().Get(i)
		name := string(md.Name())
		if md.IsStreamingClient() || md.IsStreamingServer() {
			desc.Streams = append(desc.Streams, grpc.StreamDesc{
				StreamName: name, ClientStreams: md.IsStreamingClient(), ServerStreams: md.IsStreamingServer(),
				Handler: func(srv any, s grpc.ServerStream) error {
					return srv.(*echo).doStream(name, echoStream{s, md.Input()})
				},
			})
			continue
		}
		desc.Methods = append(desc.Methods, grpc.MethodDesc{
			MethodName: name,
			Handler: func(srv any, ctx context.Context, dec func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
				in := newMessage(md.Input(), "")
				if err := dec(in.Message); err != nil {
					return nil, err
				}
				call := func(ctx context.Context, req any) (any, error) {
					out, err := srv.(*echo).doUnary(ctx, name, message{req.(*dynamicpb.Message)})
					return out.Message, err
				}
				if intercept == nil {
					return call(ctx, in.Message)
				}
				return intercept(ctx, in.Message, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + string(sd.FullName()) + "/" + name}, call)
			},
		})
	}
	return desc
}
