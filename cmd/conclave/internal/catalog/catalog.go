// Package catalog learns what a host serves from the descriptors that the host
// itself gives out by gRPC reflection: enough to call and describe recipes that
// were not known when this program was built.
package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
)

// Services returns the full names of all services of a host, in order, but for
// gRPC's own.
func Services(ctx context.Context, cc grpc.ClientConnInterface) ([]string, error) {
	a, done, err := open(ctx, cc)
	if err != nil {
		return nil, err
	}
	defer done()
	resp, err := a.ask(&reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		if !strings.HasPrefix(s.GetName(), "grpc.") {
			names = append(names, s.GetName())
		}
	}
	slices.Sort(names)
	return names, nil
}

// A Service is a service with all that its descriptors need.
type Service struct {
	protoreflect.ServiceDescriptor
	Files *protoregistry.Files
}

// Load returns one service. The error has the code NOT_FOUND if there is none.
func Load(ctx context.Context, cc grpc.ClientConnInterface, name string) (*Service, error) {
	a, done, err := open(ctx, cc)
	if err != nil {
		return nil, err
	}
	defer done()
	found := map[string]*descriptorpb.FileDescriptorProto{}
	err = a.add(found, &reflectionv1.ServerReflectionRequest{
		MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: name}})
	if err != nil {
		return nil, err
	}
	if err := a.complete(found); err != nil {
		return nil, err
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, f := range found {
		set.File = append(set.File, f)
	}
	files, err := protodesc.NewFiles(set)
	if err != nil {
		return nil, fmt.Errorf("the descriptors of %s do not fit together: %w", name, err)
	}
	d, err := files.FindDescriptorByName(protoreflect.FullName(name))
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if err != nil || !ok {
		return nil, status.Errorf(codes.NotFound, "%s is not a service", name)
	}
	return &Service{sd, files}, nil
}

// asking is one reflection stream.
type asking struct {
	stream grpc.BidiStreamingClient[reflectionv1.ServerReflectionRequest, reflectionv1.ServerReflectionResponse]
}

func open(ctx context.Context, cc grpc.ClientConnInterface) (a asking, done context.CancelFunc, err error) {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := reflectionv1.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
	if err != nil {
		cancel()
		return asking{}, nil, err
	}
	return asking{stream}, cancel, nil
}

func (a asking) ask(req *reflectionv1.ServerReflectionRequest) (*reflectionv1.ServerReflectionResponse, error) {
	if err := a.stream.Send(req); err != nil {
		_, err = a.stream.Recv() // which has the cause
		return nil, err
	}
	resp, err := a.stream.Recv()
	if err != nil {
		return nil, err
	}
	if e := resp.GetErrorResponse(); e != nil {
		return nil, status.Error(codes.Code(uint32(e.GetErrorCode())), e.GetErrorMessage()) //nolint:gosec // a code is small and not negative
	}
	return resp, nil
}

// add asks for files and adds those that come.
func (a asking) add(found map[string]*descriptorpb.FileDescriptorProto, req *reflectionv1.ServerReflectionRequest) error {
	resp, err := a.ask(req)
	if err != nil {
		return err
	}
	for _, b := range resp.GetFileDescriptorResponse().GetFileDescriptorProto() {
		f := &descriptorpb.FileDescriptorProto{}
		// Conclave's own method options are linked into this program, so they are read as what they are.
		if err := proto.Unmarshal(b, f); err != nil {
			return fmt.Errorf("a descriptor cannot be read: %w", err)
		}
		found[f.GetName()] = f
	}
	return nil
}

// complete fetches what the found files import. Servers may send it or not.
func (a asking) complete(found map[string]*descriptorpb.FileDescriptorProto) error {
	for {
		missing := ""
		for _, f := range found {
			for _, dep := range f.GetDependency() {
				if found[dep] == nil {
					missing = dep
				}
			}
		}
		if missing == "" {
			return nil
		}
		err := a.add(found, &reflectionv1.ServerReflectionRequest{
			MessageRequest: &reflectionv1.ServerReflectionRequest_FileByFilename{FileByFilename: missing}})
		if err == nil && found[missing] == nil {
			err = status.Errorf(codes.NotFound, "the host did not send %s", missing)
		}
		if err != nil {
			return err
		}
	}
}
