// Package kratosregistry registers go-kratos applications with Conclave, and finds
// them: it is a registry.Registrar and a registry.Discovery.
package kratosregistry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"sync"

	"github.com/go-kratos/kratos/v2/registry"

	"github.com/conclavehq/conclave/discovery"
)

// endpointsKey is where the metadata of an instance has its endpoints, of which
// kratos has one for each transport.
const endpointsKey = "kratos-endpoints"

// A Registry is both sides of discovery for go-kratos. What is registered comes
// back by itself after outages, and who is found stays while etcd is away.
type Registry struct {
	registrar *discovery.Registrar
	resolver  *discovery.Resolver

	mu   sync.Mutex
	regs map[string]*discovery.Registration // by service and id
}

var (
	_ registry.Registrar = (*Registry)(nil)
	_ registry.Discovery = (*Registry)(nil)
)

// New returns a registry over the two, which the caller closes.
func New(registrar *discovery.Registrar, resolver *discovery.Resolver) *Registry {
	return &Registry{registrar: registrar, resolver: resolver, regs: make(map[string]*discovery.Registration)}
}

// Register registers an instance until Deregister. The same one again is updated.
func (r *Registry) Register(ctx context.Context, si *registry.ServiceInstance) error {
	i, err := instanceOf(si)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if g := r.regs[key(si)]; g != nil && g.Context().Err() == nil {
		return g.Update(ctx, i)
	}
	g, err := r.registrar.Register(ctx, i)
	if err != nil {
		return err
	}
	r.regs[key(si)] = g
	return nil
}

// Deregister takes an instance away. One that another process took over, or that
// nobody registered here, is no error.
func (r *Registry) Deregister(_ context.Context, si *registry.ServiceInstance) error {
	r.mu.Lock()
	g := r.regs[key(si)]
	delete(r.regs, key(si))
	r.mu.Unlock()
	if g == nil {
		return nil
	}
	if err := g.Deregister(); !errors.Is(err, discovery.ErrLost) {
		return err
	}
	return nil
}

// GetService returns who offers a service now.
func (r *Registry) GetService(ctx context.Context, name string) ([]*registry.ServiceInstance, error) {
	s, err := r.resolver.Resolve(ctx, name)
	if err != nil {
		return nil, err
	}
	return instances(s), nil
}

// Watch follows a service until Stop, or the end of ctx.
func (r *Registry) Watch(ctx context.Context, name string) (registry.Watcher, error) {
	w := &watcher{news: make(chan []*registry.ServiceInstance, 1)}
	w.ctx, w.stop = context.WithCancelCause(ctx)
	w.following.Go(func() { w.follow(r.resolver, name) })
	return w, nil
}

// A watcher has the newest list that Next has not returned yet.
type watcher struct {
	ctx       context.Context
	stop      context.CancelCauseFunc
	news      chan []*registry.ServiceInstance
	following sync.WaitGroup
}

func (w *watcher) follow(r *discovery.Resolver, name string) {
	first := true
	for s, err := range r.Watch(w.ctx, name) {
		if err != nil {
			w.stop(err)
			return
		}
		if first && len(s.Instances) == 0 { // Next waits for somebody
			first = false
			continue
		}
		first = false
		select {
		case <-w.news:
		default:
		}
		w.news <- instances(s)
	}
}

// Next returns the list after the next change, at first the present one.
func (w *watcher) Next() ([]*registry.ServiceInstance, error) {
	select {
	case list := <-w.news:
		return list, nil
	case <-w.ctx.Done():
		return nil, context.Cause(w.ctx)
	}
}

// Stop ends the watcher: Next then fails with context.Canceled.
func (w *watcher) Stop() error {
	w.stop(nil)
	w.following.Wait()
	return nil
}

func key(si *registry.ServiceInstance) string { return si.Name + "\x00" + si.ID }

func instanceOf(si *registry.ServiceInstance) (discovery.Instance, error) {
	i := discovery.Instance{Service: si.Name, ID: si.ID, Version: si.Version, Metadata: make(map[string]string, len(si.Metadata)+1)}
	for k, v := range si.Metadata {
		i.Metadata[k] = v
	}
	if len(si.Endpoints) == 0 {
		return i, fmt.Errorf("service %q: instance %q has no endpoint", si.Name, si.ID)
	}
	u, err := url.Parse(si.Endpoints[0])
	if err != nil {
		return i, fmt.Errorf("service %q: instance %q: %w", si.Name, si.ID, err)
	}
	all, err := json.Marshal(si.Endpoints)
	if err != nil {
		return i, err
	}
	i.Addr, i.Metadata[endpointsKey] = u.Host, string(all)
	return i, nil
}

func instances(s *discovery.Snapshot) []*registry.ServiceInstance {
	list := make([]*registry.ServiceInstance, 0, len(s.Instances))
	for _, i := range s.Instances {
		si := &registry.ServiceInstance{ID: i.ID, Name: i.Service, Version: i.Version, Metadata: make(map[string]string, len(i.Metadata))}
		for k, v := range i.Metadata {
			si.Metadata[k] = v
		}
		delete(si.Metadata, endpointsKey)
		if json.Unmarshal([]byte(i.Metadata[endpointsKey]), &si.Endpoints) != nil { // registered by other means
			si.Endpoints = []string{"grpc://" + i.Addr}
		}
		list = append(list, si)
	}
	return list
}
