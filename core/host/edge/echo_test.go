package edge_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	_ "google.golang.org/protobuf/types/known/durationpb" // the file imports it

	"github.com/conclavehq/conclave/core/recipe"
)

// echoFile is a service that nothing has registered, as a plugin's is.
const echoFile = `
name: "edge/test/v1/echo.proto" package: "edge.test.v1" syntax: "proto3"
dependency: "google/protobuf/duration.proto"
message_type {
  name: "Item"
  field { name: "label" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "label" }
  field { name: "wait" number: 2 type: TYPE_MESSAGE type_name: ".google.protobuf.Duration" label: LABEL_OPTIONAL json_name: "wait" }
}
message_type {
  name: "Message"
  field { name: "name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "name" }
  field { name: "count" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL json_name: "count" }
  field { name: "ttl" number: 3 type: TYPE_MESSAGE type_name: ".google.protobuf.Duration" label: LABEL_OPTIONAL json_name: "ttl" }
  field { name: "items" number: 4 type: TYPE_MESSAGE type_name: ".edge.test.v1.Item" label: LABEL_REPEATED json_name: "items" }
  field { name: "by_key" number: 5 type: TYPE_MESSAGE type_name: ".edge.test.v1.Message.ByKeyEntry" label: LABEL_REPEATED json_name: "byKey" }
  field { name: "blob" number: 6 type: TYPE_BYTES label: LABEL_OPTIONAL json_name: "blob" }
  field { name: "fail" number: 7 type: TYPE_INT32 label: LABEL_OPTIONAL json_name: "fail" }
  nested_type {
    name: "ByKeyEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL json_name: "key" }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".edge.test.v1.Item" label: LABEL_OPTIONAL json_name: "value" }
  }
}
service {
  name: "EchoService"
  method { name: "Echo" input_type: ".edge.test.v1.Message" output_type: ".edge.test.v1.Message" }
  method { name: "Read" input_type: ".edge.test.v1.Message" output_type: ".edge.test.v1.Message" options { idempotency_level: NO_SIDE_EFFECTS } }
  method { name: "Count" input_type: ".edge.test.v1.Message" output_type: ".edge.test.v1.Message" server_streaming: true }
  method { name: "Sum" input_type: ".edge.test.v1.Message" output_type: ".edge.test.v1.Message" client_streaming: true }
  method { name: "Chat" input_type: ".edge.test.v1.Message" output_type: ".edge.test.v1.Message" client_streaming: true server_streaming: true }
  method { name: "Wait" input_type: ".edge.test.v1.Message" output_type: ".edge.test.v1.Message" server_streaming: true }
}`

// echoService returns the descriptor, a new one each time.
func echoService(tb testing.TB) protoreflect.ServiceDescriptor {
	tb.Helper()
	var file descriptorpb.FileDescriptorProto
	if err := prototext.Unmarshal([]byte(echoFile), &file); err != nil {
		tb.Fatal(err)
	}
	fd, err := protodesc.NewFile(&file, protoregistry.GlobalFiles)
	if err != nil {
		tb.Fatal(err)
	}
	return fd.Services().Get(0)
}

// An echo is the handler behind the edge: it stands where a host has its router.
type echo struct {
	sd      protoreflect.ServiceDescriptor
	waiting chan struct{} // told when Wait waits
	left    chan error    // told why it ended
}

func newEcho(tb testing.TB) *echo {
	tb.Helper()
	return &echo{sd: echoService(tb), waiting: make(chan struct{}, 16), left: make(chan error, 16)}
}

func (e *echo) message() *dynamicpb.Message {
	return dynamicpb.NewMessage(e.sd.Methods().Get(0).Input())
}

func (e *echo) field(name protoreflect.Name) protoreflect.FieldDescriptor {
	return e.message().Descriptor().Fields().ByName(name)
}

func (e *echo) named(name string, count int64) *dynamicpb.Message {
	m := e.message()
	m.Set(e.field("name"), protoreflect.ValueOfString(name))
	m.Set(e.field("count"), protoreflect.ValueOfInt64(count))
	return m
}

// handle is a grpc.StreamHandler.
func (e *echo) handle(_ any, s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	switch method {
	case "/edge.test.v1.EchoService/Echo", "/edge.test.v1.EchoService/Read":
		return e.echo(s)
	case "/edge.test.v1.EchoService/Count":
		return e.count(s)
	case "/edge.test.v1.EchoService/Sum":
		return e.sum(s)
	case "/edge.test.v1.EchoService/Chat":
		return e.chat(s)
	case "/edge.test.v1.EchoService/Wait":
		return e.wait(s)
	}
	return recipe.Errorf(codes.Unimplemented, "unknown_method", "no method %s", method)
}

func (e *echo) fail(m *dynamicpb.Message) error {
	if code := m.Get(e.field("fail")).Int(); code != 0 {
		return recipe.Errorf(codes.Code(code), "asked_to", "fail with 100%% of %d, as %q wants: ü", code, m.Get(e.field("name")).String())
	}
	return nil
}

// echo answers with the request, and with metadata that the caller asks for.
func (e *echo) echo(s grpc.ServerStream) error {
	m := e.message()
	if err := s.RecvMsg(m); err != nil {
		return err
	}
	md, _ := metadata.FromIncomingContext(s.Context())
	header, trailer := metadata.MD{}, metadata.MD{}
	for _, v := range md.Get("x-want") {
		header.Append("x-got", v)
		trailer.Append("x-after", v)
	}
	for _, v := range md.Get("x-want-bin") {
		header.Append("x-got-bin", v)
		trailer.Append("x-after-bin", v)
	}
	header.Append("set-cookie", "a=b")
	header.Append("access-control-allow-origin", "*")
	if p, ok := peer.FromContext(s.Context()); ok {
		kind := ""
		if p.AuthInfo != nil {
			kind = p.AuthInfo.AuthType()
		}
		header.Append("x-peer", fmt.Sprintf("%s %s", p.Addr.Network(), kind))
	}
	if d, ok := s.Context().Deadline(); ok {
		header.Append("x-deadline", fmt.Sprint(time.Until(d) > 0))
	}
	for _, name := range md.Get("x-show") {
		header.Append("x-shown", strings.Join(md.Get(name), "|"))
	}
	if err := s.SetHeader(header); err != nil {
		return err
	}
	s.SetTrailer(trailer)
	if err := e.fail(m); err != nil {
		return err
	}
	return s.SendMsg(m)
}

// count sends count messages and then fails if it is asked to.
func (e *echo) count(s grpc.ServerStream) error {
	m := e.message()
	if err := s.RecvMsg(m); err != nil {
		return err
	}
	s.SetTrailer(metadata.Pairs("x-after", "counted"))
	for i := range m.Get(e.field("count")).Int() {
		if err := s.SendMsg(e.named("tick", i)); err != nil {
			return err
		}
	}
	return e.fail(m)
}

func (e *echo) sum(s grpc.ServerStream) error {
	total := int64(0)
	for {
		m := e.message()
		err := s.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return s.SendMsg(e.named("sum", total))
		}
		if err != nil {
			return err
		}
		if err := e.fail(m); err != nil {
			return err
		}
		total += m.Get(e.field("count")).Int()
	}
}

func (e *echo) chat(s grpc.ServerStream) error {
	for {
		m := e.message()
		err := s.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := e.fail(m); err != nil {
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

// wait sends a header and then nothing, until the call ends.
func (e *echo) wait(s grpc.ServerStream) error {
	if err := s.RecvMsg(e.message()); err != nil {
		return err
	}
	if err := s.SendHeader(metadata.Pairs("x-waiting", "yes")); err != nil {
		return err
	}
	e.waiting <- struct{}{}
	<-s.Context().Done()
	e.left <- context.Cause(s.Context())
	return s.Context().Err()
}

var _ proto.Message = (*dynamicpb.Message)(nil)
