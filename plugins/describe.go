package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/plugins/internal/wire"
)

// openBudget is how long a recipe may take to open where there is no etcd, and
// closeBudget to close.
const (
	openBudget  = 5 * time.Second
	closeBudget = 2 * time.Second
)

// Describe returns what a recipe is: what Info says, the services that it
// registers, and the descriptors of all of it. It needs no etcd: to learn the
// services it opens the recipe once with a client that is refused everything, and
// closes it, unless [WithServices] names them. It is an error if the recipe
// registers nothing, or something without a descriptor.
func Describe(r recipe.Recipe, opts ...Option) (*pluginv1.Description, error) {
	info := r.Info()
	services := newOptions(opts).services
	if len(services) == 0 {
		var err error
		if services, err = probe(r); err != nil {
			return nil, fmt.Errorf("recipe %q: %w", info.Name, err)
		}
	}
	return describe(info, services)
}

func describe(info recipe.Info, services []string) (*pluginv1.Description, error) {
	d := &pluginv1.Description{Name: info.Name, Version: info.Version, Summary: info.Summary, Protocol: wire.Protocol,
		Services: sorted(services), Language: "go", Descriptors: new(descriptorpb.FileDescriptorSet)}
	files := fileSet{set: d.Descriptors, seen: make(map[string]bool)}
	for _, name := range d.Services {
		sd := findService(name)
		if sd == nil {
			return nil, fmt.Errorf("recipe %q: service %s has no descriptor: register the code that was generated from its .proto file", info.Name, name)
		}
		files.add(sd.ParentFile())
	}
	if info.Config != nil {
		md := info.Config.ProtoReflect().Descriptor()
		d.Config = string(md.FullName())
		files.add(md.ParentFile())
	}
	return d, nil
}

// A fileSet collects files, each after those that it imports.
type fileSet struct {
	set  *descriptorpb.FileDescriptorSet
	seen map[string]bool
}

func (f fileSet) add(fd protoreflect.FileDescriptor) {
	if f.seen[fd.Path()] || fd.IsPlaceholder() {
		return
	}
	f.seen[fd.Path()] = true
	for i := range fd.Imports().Len() {
		f.add(fd.Imports().Get(i).FileDescriptor)
	}
	f.set.File = append(f.set.File, protodesc.ToFileDescriptorProto(fd))
}

// probe opens a recipe without etcd, and returns the services that it registers.
func probe(r recipe.Recipe) (services []string, err error) {
	space, err := scope.New(scope.Backend{KV: pb.NewKVClient(nowhere{}), Lease: pb.NewLeaseClient(nowhere{}), Watch: pb.NewWatchClient(nowhere{})}, r.Info().Name, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = space.Close() }() // nothing of it is in use
	env := recipe.NewEnv(r.Info().Name, space.Client(), defaults(r.Info()), slog.New(slog.DiscardHandler))
	defer env.Close()
	ctx, cancel := context.WithTimeout(context.Background(), openBudget)
	defer cancel()
	var heard names
	instance, err := openGuarded(ctx, r, env, &heard)
	if err == nil {
		closing, done := context.WithTimeout(context.Background(), closeBudget)
		defer done()
		_ = instance.Close(closing) // what it says of an etcd that is not there is no news
	}
	if len(heard.list()) == 0 {
		return nil, errors.Join(errors.New("it registers no service"), err)
	}
	return heard.list(), nil
}

// openGuarded turns a panic of a recipe into an error.
func openGuarded(ctx context.Context, r recipe.Recipe, env recipe.Env, reg grpc.ServiceRegistrar) (i recipe.Instance, err error) {
	defer func() {
		if p := recover(); p != nil {
			i, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	return r.Open(ctx, env, reg)
}

// defaults returns the configuration of who gives none.
func defaults(info recipe.Info) proto.Message {
	if info.Config == nil {
		return nil
	}
	return proto.Clone(info.Config)
}

// names collects the names of services.
type names struct {
	mu  sync.Mutex
	all []string
}

// RegisterService implements grpc.ServiceRegistrar.
func (n *names) RegisterService(desc *grpc.ServiceDesc, _ any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, desc.ServiceName)
}

func (n *names) list() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return sorted(n.all)
}

// nowhere is a connection to no etcd. A refusal is what clients repeat least.
type nowhere struct{}

// Invoke refuses a call.
func (nowhere) Invoke(context.Context, string, any, any, ...grpc.CallOption) error {
	return rpctypes.ErrGRPCPermissionDenied
}

// NewStream refuses a stream.
func (nowhere) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, rpctypes.ErrGRPCPermissionDenied
}
