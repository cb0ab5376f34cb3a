package router

import (
	"context"

	"google.golang.org/grpc"
)

// A local backend is an implementation in this process. Its calls see messages
// that were decoded for them, so nothing is shared with the caller.
type local struct {
	impl    any
	methods map[string]localMethod
}

type localMethod func(impl any, stream grpc.ServerStream) error

func newLocal(desc *grpc.ServiceDesc, impl any) *local {
	b := &local{impl: impl, methods: map[string]localMethod{}}
	for i := range desc.Methods {
		b.methods[desc.Methods[i].MethodName] = unary(desc.Methods[i].Handler)
	}
	for i := range desc.Streams {
		b.methods[desc.Streams[i].StreamName] = localMethod(desc.Streams[i].Handler)
	}
	return b
}

type unaryHandler = func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error)

func unary(h unaryHandler) localMethod {
	return func(impl any, stream grpc.ServerStream) error {
		reply, err := h(impl, stream.Context(), func(v any) error { return firstMissing(stream.RecvMsg(v)) }, nil)
		if err != nil {
			return err
		}
		return stream.SendMsg(reply)
	}
}

func (b *local) ready() bool                     { return true }
func (b *local) down() string                    { return "" }
func (b *local) acquire() (server, func(), bool) { return b, nil, true }

func (b *local) serve(m *Method, stream grpc.ServerStream) error {
	return b.methods[m.Name()](b.impl, stream)
}
