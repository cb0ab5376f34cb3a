package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	recipev1 "github.com/conclavehq/conclave/api/conclave/recipe/v1"
)

// A service is what reflection tells of one.
type service struct {
	protoreflect.ServiceDescriptor
	types *dynamicpb.Types
}

// own are the services that every host serves.
func own(name string) bool {
	return strings.HasPrefix(name, "grpc.") || strings.HasPrefix(name, "conclave.host.") || strings.HasPrefix(name, "conclave.session.") ||
		strings.HasPrefix(name, "conclave.plugin.") || strings.HasPrefix(name, "conclave.pipeline.")
}

// load asks the host for the recipe's services, once.
func (p *place) load(ctx context.Context) (map[string]*service, error) {
	if p.services != nil {
		return p.services, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(p.conn).ServerReflectionInfo(ctx)
	if err != nil {
		return nil, err
	}
	r := reflection{stream, map[string]*descriptorpb.FileDescriptorProto{}}
	names, err := r.services()
	if err != nil {
		return nil, err
	}
	services := map[string]*service{}
	for _, name := range names {
		if services[name], err = r.service(name); err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
	}
	p.services = services
	return services, nil
}

// reflection is one conversation with a host's reflection service.
type reflection struct {
	stream grpc.BidiStreamingClient[grpc_reflection_v1.ServerReflectionRequest, grpc_reflection_v1.ServerReflectionResponse]
	files  map[string]*descriptorpb.FileDescriptorProto
}

func (r reflection) ask(req *grpc_reflection_v1.ServerReflectionRequest) (*grpc_reflection_v1.ServerReflectionResponse, error) {
	if err := r.stream.Send(req); err != nil {
		_, err = r.stream.Recv() // which has the cause
		return nil, err
	}
	resp, err := r.stream.Recv()
	if err != nil {
		return nil, err
	}
	if e := resp.GetErrorResponse(); e != nil {
		return nil, fmt.Errorf("reflection: %s", e.GetErrorMessage())
	}
	return resp, nil
}

// services returns the names of the recipe's services.
func (r reflection) services() ([]string, error) {
	resp, err := r.ask(&grpc_reflection_v1.ServerReflectionRequest{MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		if !own(s.GetName()) {
			names = append(names, s.GetName())
		}
	}
	slices.Sort(names)
	return names, nil
}

// service resolves a service with everything that it imports.
func (r reflection) service(name string) (*service, error) {
	if err := r.fetch(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}}); err != nil {
		return nil, err
	}
	for missing := r.missing(); missing != ""; missing = r.missing() {
		if err := r.fetch(&grpc_reflection_v1.ServerReflectionRequest{
			MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileByFilename{FileByFilename: missing}}); err != nil {
			return nil, fmt.Errorf("%s, which it imports: %w", missing, err)
		}
		if r.files[missing] == nil {
			return nil, fmt.Errorf("%s, which it imports, is not there", missing)
		}
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range r.files {
		set.File = append(set.File, f)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, err
	}
	return found(files, name)
}

func found(files *protoregistry.Files, name string) (*service, error) {
	d, err := files.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, err
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no service", name)
	}
	return &service{sd, dynamicpb.NewTypes(files)}, nil
}

func (r reflection) fetch(req *grpc_reflection_v1.ServerReflectionRequest) error {
	resp, err := r.ask(req)
	if err != nil {
		return err
	}
	for _, b := range resp.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := &descriptorpb.FileDescriptorProto{}
		if err := proto.Unmarshal(b, f); err != nil {
			return err
		}
		r.files[f.GetName()] = f
	}
	return nil
}

// missing returns a file that is imported and not there.
func (r reflection) missing() string {
	for _, f := range r.files {
		for _, dep := range f.GetDependency() {
			if r.files[dep] == nil {
				return dep
			}
		}
	}
	return ""
}

// method finds package.Service/Method among the recipe's services.
func (p *place) method(ctx context.Context, name string) (protoreflect.MethodDescriptor, *service, error) {
	services, err := p.load(ctx)
	if err != nil {
		return nil, nil, err
	}
	of, method, _ := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if s := services[of]; s != nil {
		if m := s.Methods().ByName(protoreflect.Name(method)); m != nil {
			return m, s, nil
		}
	}
	return nil, nil, fmt.Errorf("the recipe has no method %s", name)
}

// methods returns every method of the recipe, in order.
func (p *place) methods(ctx context.Context) ([]protoreflect.MethodDescriptor, error) {
	services, err := p.load(ctx)
	if err != nil {
		return nil, err
	}
	var all []protoreflect.MethodDescriptor
	for _, s := range services {
		for i := range s.Methods().Len() {
			all = append(all, s.Methods().Get(i))
		}
	}
	slices.SortFunc(all, func(a, b protoreflect.MethodDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return all, nil
}

// options returns what a method says of itself.
func options(m protoreflect.MethodDescriptor) *recipev1.Method {
	o, _ := proto.GetExtension(m.Options(), recipev1.E_Method).(*recipev1.Method) // nil is a message without fields
	return o
}

// repeatable reports whether a method may be called again after a lost reply.
func repeatable(m protoreflect.MethodDescriptor) bool {
	o, _ := m.Options().(*descriptorpb.MethodOptions) // nil is a message without fields
	return o.GetIdempotencyLevel() != descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN
}
