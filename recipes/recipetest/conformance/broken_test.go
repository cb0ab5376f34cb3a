package conformance

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
)

func TestMain(m *testing.M) {
	registerBare()
	coretest.Main(m, nil)
}

// nothing is an instance without anything.
type nothing struct{}

// Close implements recipe.Instance.
func (nothing) Close(context.Context) error { return nil }

// silent is a recipe without a service.
type silent struct{}

// Info implements recipe.Recipe.
func (silent) Info() recipe.Info {
	return recipe.Info{Name: "silent", Version: "1.0.0", Summary: "Nothing at all"}
}

// Open implements recipe.Recipe.
func (silent) Open(context.Context, recipe.Env, grpc.ServiceRegistrar) (recipe.Instance, error) {
	return nothing{}, nil
}

// bare is a recipe with a method that says nothing of itself.
type bare struct{ silent }

// bareService is its service, of which registerBare makes the descriptor.
const bareService = "example.bare.v1.BareService"

// Open implements recipe.Recipe.
func (bare) Open(_ context.Context, _ recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	reg.RegisterService(&grpc.ServiceDesc{ServiceName: bareService, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
		MethodName: "Do",
		Handler: func(_ any, _ context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return new(emptypb.Empty), dec(new(emptypb.Empty))
		},
	}}}, nil)
	return nothing{}, nil
}

// registerBare stands for the generated code of the bare service.
func registerBare() {
	empty := ".google.protobuf.Empty"
	f, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("example/bare/v1/bare.proto"), Package: new("example.bare.v1"), Syntax: new("proto3"),
		Dependency: []string{"google/protobuf/empty.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("BareService"),
			Method: []*descriptorpb.MethodDescriptorProto{{Name: new("Do"), InputType: &empty, OutputType: &empty}}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		panic(err)
	}
	if err := protoregistry.GlobalFiles.RegisterFile(f); err != nil {
		panic(err)
	}
}
