package router

import (
	"context"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionalphapb "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/conclavehq/conclave/internal/reason"
)

// registerOwn publishes the router's own services.
func (r *Router) registerOwn() error {
	g := r.Registrar("", AllowReserved())
	g.set.own = true
	healthpb.RegisterHealthServer(g, &health{router: r})
	options := reflection.ServerOptions{Services: directory{r}, DescriptorResolver: directory{r}}
	reflectionpb.RegisterServerReflectionServer(g, reflection.NewServerV1(options))
	reflectionalphapb.RegisterServerReflectionServer(g, reflection.NewServer(options))
	return g.Publish()
}

// health answers from what is published: nobody has to keep it up to date.
type health struct {
	healthpb.UnimplementedHealthServer
	router *Router
}

func (t *table) health(name string) healthpb.HealthCheckResponse_ServingStatus {
	s := t.services[name]
	switch {
	case name != "" && s == nil:
		return healthpb.HealthCheckResponse_SERVICE_UNKNOWN
	case !t.serving, s != nil && !s.ready():
		return healthpb.HealthCheckResponse_NOT_SERVING
	default:
		return healthpb.HealthCheckResponse_SERVING
	}
}

// Check implements grpc.health.v1.
func (h *health) Check(_ context.Context, req *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	st := h.router.table.Load().health(req.GetService())
	if st == healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
		return nil, reason.Errorf(codes.NotFound, "not_found", "service: %q is not registered", req.GetService())
	}
	return &healthpb.HealthCheckResponse{Status: st}, nil
}

// List implements grpc.health.v1.
func (h *health) List(context.Context, *healthpb.HealthListRequest) (*healthpb.HealthListResponse, error) {
	t := h.router.table.Load()
	all := map[string]*healthpb.HealthCheckResponse{"": {Status: t.health("")}}
	for name := range t.services {
		all[name] = &healthpb.HealthCheckResponse{Status: t.health(name)}
	}
	return &healthpb.HealthListResponse{Statuses: all}, nil
}

// Watch implements grpc.health.v1.
func (h *health) Watch(req *healthpb.HealthCheckRequest, stream grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	last := healthpb.HealthCheckResponse_ServingStatus(-1)
	for {
		t := h.router.table.Load()
		if now := t.health(req.GetService()); now != last {
			last = now
			if err := stream.Send(&healthpb.HealthCheckResponse{Status: now}); err != nil {
				return err
			}
		}
		select {
		case <-t.changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

// directory gives reflection the services that are published and their
// descriptors, which need not be linked into this program.
type directory struct{ router *Router }

// GetServiceInfo implements reflection.ServiceInfoProvider.
func (d directory) GetServiceInfo() map[string]grpc.ServiceInfo {
	all := map[string]grpc.ServiceInfo{}
	for name := range d.router.table.Load().services {
		all[name] = grpc.ServiceInfo{}
	}
	return all
}

// FindFileByPath implements protodesc.Resolver.
func (d directory) FindFileByPath(path string) (protoreflect.FileDescriptor, error) {
	var found protoreflect.FileDescriptor
	d.walk(func(fd protoreflect.FileDescriptor) bool {
		if fd.Path() == path {
			found = fd
		}
		return found == nil
	})
	if found != nil {
		return found, nil
	}
	return protoregistry.GlobalFiles.FindFileByPath(path)
}

// FindDescriptorByName implements protodesc.Resolver.
func (d directory) FindDescriptorByName(name protoreflect.FullName) (protoreflect.Descriptor, error) {
	t := d.router.table.Load()
	for n := name; n != ""; n = n.Parent() { // a method is found with its service
		if s := t.services[string(n)]; s != nil {
			return within(s.descriptor, name)
		}
	}
	var found protoreflect.Descriptor
	d.walk(func(fd protoreflect.FileDescriptor) bool {
		found = inFile(fd, name)
		return found == nil
	})
	if found != nil {
		return found, nil
	}
	return protoregistry.GlobalFiles.FindDescriptorByName(name)
}

var _ protodesc.Resolver = directory{}

// within finds a service or one of its methods.
func within(sd protoreflect.ServiceDescriptor, name protoreflect.FullName) (protoreflect.Descriptor, error) {
	if sd.FullName() == name {
		return sd, nil
	}
	if md := sd.Methods().ByName(name.Name()); md != nil && md.FullName() == name {
		return md, nil
	}
	return nil, protoregistry.NotFound
}

// inFile finds what a file declares under a name, or nil.
func inFile(fd protoreflect.FileDescriptor, name protoreflect.FullName) protoreflect.Descriptor {
	files := new(protoregistry.Files)
	if err := files.RegisterFile(fd); err != nil {
		return nil
	}
	found, err := files.FindDescriptorByName(name)
	if err != nil {
		return nil
	}
	return found
}

// walk visits the files of the published services and all that they import, each
// once, until visit returns false.
func (d directory) walk(visit func(protoreflect.FileDescriptor) bool) {
	services := d.router.table.Load().services
	seen := map[protoreflect.FileDescriptor]bool{}
	var files []protoreflect.FileDescriptor
	for _, name := range slices.Sorted(maps.Keys(services)) {
		files = append(files, services[name].descriptor.ParentFile())
	}
	for len(files) > 0 {
		fd := files[0]
		files = files[1:]
		if seen[fd] || fd.IsPlaceholder() {
			continue
		}
		seen[fd] = true
		if !visit(fd) {
			return
		}
		for i := range fd.Imports().Len() {
			files = append(files, fd.Imports().Get(i).FileDescriptor)
		}
	}
}
