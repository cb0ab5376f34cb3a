// Package grpcresolver lets grpc-go clients dial services that are registered
// with package discovery, by "conclave:///" and the service's name:
//
//	conn, err := grpc.NewClient("conclave:///shop/web",
//		grpc.WithResolvers(grpcresolver.New(resolver)),
//		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`), …)
//
// The client follows the service as a discovery.Resolver does: through outages of
// etcd, and without believing a mass loss. With [NewBalancer] it also minds
// weights, zones and how its own requests fare.
package grpcresolver

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"

	"github.com/conclavehq/conclave/discovery"
)

// Scheme is that of the targets.
const Scheme = "conclave"

// instanceKey is where an address's attributes have its instance.
type instanceKey struct{}

// InstanceOf returns the instance of an address that this package resolved.
func InstanceOf(a *attributes.Attributes) (discovery.Instance, bool) {
	i, ok := a.Value(instanceKey{}).(instance)
	return i.Instance, ok
}

// An instance is comparable by what it says, as gRPC's attributes want it.
type instance struct{ discovery.Instance }

// Equal reports whether a balancer has nothing to learn.
func (i instance) Equal(other any) bool {
	j, ok := other.(instance)
	return ok && i.ID == j.ID && i.Addr == j.Addr && i.Weight == j.Weight && i.Zone == j.Zone && i.Version == j.Version && i.Token == j.Token
}

// New returns a builder of gRPC resolvers, all of which follow their services
// with r. r must stay open as long as the connections do. It is given to
// grpc.WithResolvers, so nothing is registered globally.
func New(r *discovery.Resolver) resolver.Builder { return builder{r} }

type builder struct{ r *discovery.Resolver }

// Scheme is "conclave".
func (builder) Scheme() string { return Scheme }

// Build follows the service that the target names.
func (b builder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	service := strings.TrimPrefix(target.URL.Path, "/")
	if service == "" {
		service = target.URL.Opaque
	}
	if service == "" || target.URL.Host != "" {
		return nil, fmt.Errorf("target %q: want %s:/// and the name of a service", target.URL.String(), Scheme)
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &following{stop: stop}
	f.done.Go(func() { follow(ctx, b.r, service, cc) })
	return f, nil
}

// following is one connection's resolver.
type following struct {
	stop context.CancelFunc
	done sync.WaitGroup
}

// ResolveNow has nothing to do: changes arrive by themselves.
func (f *following) ResolveNow(resolver.ResolveNowOptions) {}

// Close ends the resolver.
func (f *following) Close() {
	f.stop()
	f.done.Wait()
}

func follow(ctx context.Context, r *discovery.Resolver, service string, cc resolver.ClientConn) {
	for s, err := range r.Watch(ctx, service) {
		switch {
		case ctx.Err() != nil:
		case err != nil:
			cc.ReportError(err)
		case len(s.Instances) == 0:
			// gRPC takes an empty list for a fault of the resolver, and asks again and
			// again. Calls fail with this error, or with that of the last instances.
			cc.ReportError(fmt.Errorf("service %q: %w", service, discovery.ErrNoInstance))
		default:
			_ = cc.UpdateState(state(s)) // a balancer that does not like it says so to the calls
		}
	}
}

func state(s *discovery.Snapshot) resolver.State {
	st := resolver.State{Endpoints: make([]resolver.Endpoint, 0, len(s.Instances)), Addresses: make([]resolver.Address, 0, len(s.Instances))}
	for _, i := range s.Instances {
		says := attributes.New(instanceKey{}, instance{i})
		a := resolver.Address{Addr: i.Addr, BalancerAttributes: says} //nolint:staticcheck // package base hands on nothing else
		st.Addresses = append(st.Addresses, a)
		st.Endpoints = append(st.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{a}, Attributes: says})
	}
	return st
}
