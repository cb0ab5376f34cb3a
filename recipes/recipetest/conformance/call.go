package conformance

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// call makes a call of a scenario, and returns its answer as JSON decodes it.
func (p *place) call(ctx context.Context, c *Call, who caller, v vars) (any, error) {
	m, s, err := p.method(ctx, c.Method)
	if err != nil {
		return nil, err
	}
	fields, err := v.request(c)
	if err != nil {
		return nil, err
	}
	if field := options(m).GetSessionField(); field != "" && fields[field] == nil {
		fields[field] = who.id
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	req := dynamicpb.NewMessage(m.Input())
	if err := (protojson.UnmarshalOptions{Resolver: s.types}).Unmarshal(body, req); err != nil {
		return nil, fmt.Errorf("%s: its request: %w", c.Method, err)
	}
	answer, err := p.invoke(ctx, m, req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Method, err)
	}
	body, err = protojson.MarshalOptions{Resolver: s.types}.Marshal(answer)
	if err != nil {
		return nil, err
	}
	var decoded any
	err = json.Unmarshal(body, &decoded)
	return decoded, err
}

// invoke calls a method with one message, and returns the first one that comes.
func (p *place) invoke(ctx context.Context, m protoreflect.MethodDescriptor, req proto.Message) (proto.Message, error) {
	name := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
	answer := dynamicpb.NewMessage(m.Output())
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		return answer, p.conn.Invoke(ctx, name, req, answer)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	desc := &grpc.StreamDesc{ClientStreams: m.IsStreamingClient(), ServerStreams: m.IsStreamingServer()}
	stream, err := p.conn.NewStream(ctx, desc, name)
	if err != nil {
		return nil, err
	}
	if err := stream.SendMsg(req); err != nil {
		return nil, stream.RecvMsg(answer) // which has the cause
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	return answer, stream.RecvMsg(answer)
}
