package router

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// Why a registrar refuses a service.
var (
	ErrDuplicate = errors.New("is already registered")
	ErrReserved  = errors.New("is in a package that is reserved for the host")
	ErrPublished = errors.New("services are already published")
)

// ErrWithdrawn is the cause with which [Registrar.Cancel] ends the contexts of calls.
var ErrWithdrawn = errors.New("router: the recipe was withdrawn")

// A RegistrarOption changes what a registrar accepts.
type RegistrarOption func(*Registrar)

// AllowReserved lets a registrar take services of reserved packages. It is for
// the host's own services. Without it they are refused.
func AllowReserved() RegistrarOption { return func(g *Registrar) { g.reserved = true } }

// A Registrar collects the services of one recipe, and publishes and withdraws
// them together. It is the grpc.ServiceRegistrar that a recipe is opened with.
type Registrar struct {
	router   *Router
	set      *set
	reserved bool

	mu        sync.Mutex
	services  []*service
	errs      []error
	published bool
	withdrawn bool
}

// Registrar returns a registrar for the recipe instance owner, whose name is not
// empty.
func (r *Router) Registrar(owner string, opts ...RegistrarOption) *Registrar {
	g := &Registrar{router: r, set: &set{owner: owner, users: newGroup()}}
	for _, opt := range opts {
		opt(g)
	}
	return g
}

// RegisterService implements grpc.ServiceRegistrar. What is wrong with the
// service is reported by [Registrar.Publish]; after it, a service is refused and
// the refusal logged.
func (g *Registrar) RegisterService(desc *grpc.ServiceDesc, impl any) {
	sd, err := linkedDescriptor(desc.ServiceName)
	if err != nil {
		g.fail(desc.ServiceName, err)
		return
	}
	b := newLocal(desc, impl)
	for name := range b.methods {
		if sd.Methods().ByName(protoreflect.Name(name)) == nil {
			g.fail(desc.ServiceName, fmt.Errorf("has a method %s that its descriptor does not know", name))
			return
		}
	}
	g.add(sd, b, func(md protoreflect.MethodDescriptor) bool { return b.methods[string(md.Name())] != nil })
}

// linkedDescriptor finds the descriptor of a service whose generated code is
// linked into this program.
func linkedDescriptor(name string) (protoreflect.ServiceDescriptor, error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, errors.New("has no descriptor: register the code that was generated from its .proto file")
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, errors.New("is the name of something that is no service")
	}
	return sd, nil
}

// Proxy registers services that the connection of the returned proxy serves.
// Their calls wait, as for a restart, until the proxy is connected. Errors are
// reported by [Registrar.Publish].
func (g *Registrar) Proxy(services ...protoreflect.ServiceDescriptor) *Proxy {
	p := &Proxy{router: g.router}
	for _, sd := range services {
		g.add(sd, p, func(protoreflect.MethodDescriptor) bool { return true })
	}
	return p
}

func (g *Registrar) add(sd protoreflect.ServiceDescriptor, b backend, has func(protoreflect.MethodDescriptor) bool) {
	name := string(sd.FullName())
	if !g.reserved && reserved(name) {
		g.fail(name, ErrReserved)
		return
	}
	sv := &service{set: g.set, descriptor: sd, backend: b}
	for i := range sd.Methods().Len() {
		md := sd.Methods().Get(i)
		if !has(md) {
			continue
		}
		m, err := newMethod(g.set.owner, md, g.set.own)
		if err != nil {
			g.fail(name, err)
			return
		}
		sv.routes = append(sv.routes, g.router.newRoute(sv, m))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuse(name) {
		return
	}
	for _, other := range g.services {
		if string(other.descriptor.FullName()) == name {
			g.errs = append(g.errs, fmt.Errorf("service %s: %w by %q", name, ErrDuplicate, g.set.owner))
			return
		}
	}
	g.services = append(g.services, sv)
}

func (g *Registrar) fail(name string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.refuse(name) {
		g.errs = append(g.errs, fmt.Errorf("service %s: %w", name, err))
	}
}

// refuse reports whether it is too late to register. The caller holds g.mu.
func (g *Registrar) refuse(name string) bool {
	if g.published {
		g.router.log.Error("service refused", "recipe", g.set.owner, "service", name, "error", ErrPublished)
	}
	return g.published
}

// Services returns the descriptors of what was registered, in that order.
func (g *Registrar) Services() []protoreflect.ServiceDescriptor {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]protoreflect.ServiceDescriptor, len(g.services))
	for i, sv := range g.services {
		list[i] = sv.descriptor
	}
	return list
}

// Publish makes all services reachable at once, or none of them: the error names
// each service that is refused and why ([ErrReserved], [ErrDuplicate]). Services
// that another registrar published for the same owner are replaced in the same
// step: their calls in flight go on, and new ones, also those that were held,
// come here. A second Publish fails with [ErrPublished].
func (g *Registrar) Publish() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.published {
		return fmt.Errorf("recipe %q: %w", g.set.owner, ErrPublished)
	}
	if err := errors.Join(g.errs...); err != nil {
		return fmt.Errorf("recipe %q: %w", g.set.owner, err)
	}
	replaced, err := g.router.publish(g.set, g.services)
	if err != nil {
		return fmt.Errorf("recipe %q: %w", g.set.owner, err)
	}
	g.published = true
	for _, old := range replaced {
		old.users.close() // after the swap: who finds it closed looks again, and finds the new one
	}
	return nil
}

// Suspend holds new calls, which wait for the owner's next registrar to publish:
// for at most Config.Hold, after which they fail with UNAVAILABLE,
// recipe_restarting. Calls in flight go on.
func (g *Registrar) Suspend() {
	g.set.users.close()
	g.router.touch()
}

// Withdraw makes the services unreachable. Calls in flight go on, see
// [Registrar.Drain]. It is idempotent, and does nothing to what has replaced the
// services.
func (g *Registrar) Withdraw() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.withdrawn || !g.published {
		g.set.users.close()
		return
	}
	g.withdrawn = true
	g.router.withdraw(g.set)
	g.set.users.close()
}

// Drain waits until no call uses the services, after they were suspended,
// withdrawn or replaced. The error is the cause of ctx's end.
func (g *Registrar) Drain(ctx context.Context) error {
	if err := wait(ctx, g.set.users.idle); err != nil {
		return fmt.Errorf("recipe %q: calls did not end: %w", g.set.owner, err)
	}
	return nil
}

// Cancel ends the contexts of the calls in flight, with [ErrWithdrawn] as their
// cause. Their callers are told UNAVAILABLE, recipe_restarting.
func (g *Registrar) Cancel() { g.router.calls.end(g.set, ErrWithdrawn, false) }

// CancelStreams is [Registrar.Cancel] for those calls that have a stream in either
// direction: they end by nothing else.
func (g *Registrar) CancelStreams() { g.router.calls.end(g.set, ErrWithdrawn, true) }
