package router

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// A table is what the router serves at one moment. It never changes: whoever
// changes what is served makes another one and closes changed of the last.
type table struct {
	services map[string]*service // by full name
	routes   map[string]*route   // by "/service/method"
	serving  bool                // the host as a whole
	changed  chan struct{}
}

func newTable(services map[string]*service, serving bool) *table {
	t := &table{services: services, routes: map[string]*route{}, serving: serving, changed: make(chan struct{})}
	for _, s := range services {
		for _, rt := range s.routes {
			t.routes[rt.method.FullName] = rt
		}
	}
	return t
}

// A service is one service of a set.
type service struct {
	set        *set
	descriptor protoreflect.ServiceDescriptor
	backend    backend
	routes     []*route
}

// A set is what one registrar published: it comes and goes as one.
type set struct {
	owner string
	own   bool // the router's own
	users *group
}

// ready reports whether a call would be served now.
func (s *service) ready() bool { return s.set.users.open() && s.backend.ready() }

// Service describes a service that is published.
type Service struct {
	// Owner is the name under which it was registered; empty for the router's own.
	Owner string
	// Descriptor describes it.
	Descriptor protoreflect.ServiceDescriptor
	// Ready says that calls are served; otherwise it is being restarted.
	Ready bool
}

// Services returns what is published now, by name.
func (r *Router) Services() []Service {
	t := r.table.Load()
	var list []Service
	for _, name := range slices.Sorted(maps.Keys(t.services)) {
		s := t.services[name]
		list = append(list, Service{Owner: s.set.owner, Descriptor: s.descriptor, Ready: s.ready()})
	}
	return list
}

// SetServing says whether the host as a whole serves, which health tells; while
// it does not, neither does any service. Calls are served all the same.
func (r *Router) SetServing(serving bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.table.Load()
	if old.serving != serving {
		r.swap(old.services, serving)
	}
}

// touch tells those who wait that the state of a backend has changed.
func (r *Router) touch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.table.Load()
	r.swap(old.services, old.serving)
}

// swap replaces the table. The caller holds r.mu.
func (r *Router) swap(services map[string]*service, serving bool) {
	old := r.table.Swap(newTable(services, serving))
	close(old.changed)
}

// publish puts a set in the table, in place of what its owner had there, whose
// sets it returns.
func (r *Router) publish(s *set, services []*service) ([]*set, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.table.Load()
	next := map[string]*service{}
	replaced := map[*set]bool{}
	for name, sv := range old.services {
		if sv.set.owner == s.owner && sv.set.own == s.own {
			replaced[sv.set] = true
			continue
		}
		next[name] = sv
	}
	for _, sv := range services {
		name := string(sv.descriptor.FullName())
		if other := next[name]; other != nil {
			return nil, fmt.Errorf("service %s: %w by %s", name, ErrDuplicate, other.set.describe())
		}
		next[name] = sv
	}
	r.swap(next, old.serving)
	return slices.Collect(maps.Keys(replaced)), nil
}

func (s *set) describe() string {
	if s.own {
		return "the router itself"
	}
	return fmt.Sprintf("%q", s.owner)
}

// withdraw takes a set out of the table.
func (r *Router) withdraw(s *set) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.table.Load()
	next := maps.Clone(old.services)
	maps.DeleteFunc(next, func(_ string, sv *service) bool { return sv.set == s })
	r.swap(next, old.serving)
}

// Packages that are not for recipes: gRPC's own, etcd's, the host's.
func reserved(service string) bool {
	for _, prefix := range []string{
		"conclave.session.", "conclave.host.", "conclave.pipeline.", "conclave.plugin.", "conclave.recipe.",
		"grpc.", "plugin.", "google.", "etcdserverpb.", "v3lockpb.", "v3electionpb.", "mvccpb.", "authpb.",
	} {
		if strings.HasPrefix(service, prefix) {
			return true
		}
	}
	return false
}
