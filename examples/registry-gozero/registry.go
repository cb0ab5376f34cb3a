// Package gozeroregistry registers go-zero's zrpc servers with Conclave, and finds
// them: it has what discov has, a Publisher and a Subscriber, and the option with
// which zrpc's clients resolve targets such as conclave:///shop.
package gozeroregistry

import (
	"context"
	"errors"
	"sync"

	"github.com/zeromicro/go-zero/zrpc"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/discovery/grpcresolver"
)

// Scheme begins the targets of zrpc's clients: Target: conclave:///shop.
const Scheme = grpcresolver.Scheme

// WithResolver makes a zrpc client resolve targets of [Scheme] with r. zrpc's own
// balancers choose among the instances.
func WithResolver(r *discovery.Resolver) zrpc.ClientOption {
	return zrpc.WithDialOption(grpc.WithResolvers(grpcresolver.New(r)))
}

// A Publisher keeps a server registered.
type Publisher struct {
	registrar *discovery.Registrar
	instance  discovery.Instance

	mu sync.Mutex
	g  *discovery.Registration // nil: not now
}

// NewPublisher returns a publisher of an instance.
func NewPublisher(r *discovery.Registrar, i discovery.Instance) *Publisher {
	return &Publisher{registrar: r, instance: i}
}

// KeepAlive registers the server. It returns when etcd has it, or ctx ends; from
// then on it comes back by itself until Stop.
func (p *Publisher) KeepAlive(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.g != nil {
		return nil
	}
	g, err := p.registrar.Register(ctx, p.instance)
	if err != nil {
		return err
	}
	p.g = g
	return nil
}

// Pause says that the server takes no new calls for now.
func (p *Publisher) Pause(ctx context.Context) error { return p.say(ctx, discovery.Maintenance) }

// Resume ends what Pause began.
func (p *Publisher) Resume(ctx context.Context) error { return p.say(ctx, discovery.Passing) }

func (p *Publisher) say(ctx context.Context, s discovery.State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.g == nil {
		return errors.New("the server is not registered")
	}
	i := p.g.Instance()
	i.State = s
	return p.g.Update(ctx, i)
}

// Stop takes the server away.
func (p *Publisher) Stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.g == nil {
		return nil
	}
	g := p.g
	p.g = nil
	return g.Deregister()
}

// A Subscriber follows a service.
type Subscriber struct {
	stop      context.CancelFunc
	following sync.WaitGroup

	mu        sync.Mutex
	values    []string
	listeners []func()
}

// NewSubscriber follows a service until Close. It has the present instances when it
// returns.
func NewSubscriber(ctx context.Context, r *discovery.Resolver, service string) (*Subscriber, error) {
	first, err := r.Resolve(ctx, service)
	if err != nil {
		return nil, err
	}
	s := &Subscriber{values: addresses(first)}
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.following.Go(func() {
		for snap, err := range r.Watch(ctx, service) {
			if err != nil {
				return
			}
			s.set(addresses(snap))
		}
	})
	return s, nil
}

func addresses(s *discovery.Snapshot) []string {
	all := make([]string, 0, len(s.Instances))
	for _, i := range s.Instances {
		all = append(all, i.Addr)
	}
	return all
}

func (s *Subscriber) set(values []string) {
	s.mu.Lock()
	s.values = values
	listeners := append([]func(){}, s.listeners...)
	s.mu.Unlock()
	for _, f := range listeners {
		f()
	}
}

// AddListener has f called after every change.
func (s *Subscriber) AddListener(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, f)
}

// Values returns the addresses that can be called.
func (s *Subscriber) Values() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values
}

// Close ends the subscriber.
func (s *Subscriber) Close() {
	s.stop()
	s.following.Wait()
}
