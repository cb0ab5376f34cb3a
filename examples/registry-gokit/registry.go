// Package gokitregistry registers Go kit services with Conclave, and finds them: it
// has an sd.Registrar and an sd.Instancer.
package gokitregistry

import (
	"context"
	"sync"

	"github.com/go-kit/kit/sd"
	"github.com/go-kit/log"

	"github.com/conclavehq/conclave/discovery"
)

// A Registrar registers one instance.
type Registrar struct {
	registrar *discovery.Registrar
	instance  discovery.Instance
	log       log.Logger

	mu     sync.Mutex
	cancel context.CancelFunc
	done   chan struct{}
}

var (
	_ sd.Registrar = (*Registrar)(nil)
	_ sd.Instancer = (*Instancer)(nil)
)

// NewRegistrar returns a registrar of an instance.
func NewRegistrar(r *discovery.Registrar, i discovery.Instance, l log.Logger) *Registrar {
	return &Registrar{registrar: r, instance: i, log: l}
}

// Register registers the instance, and sees to it that it stays registered. It
// does not wait for etcd: an outage at the start only delays it.
func (r *Registrar) Register() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		return
	}
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	r.done = make(chan struct{})
	go r.keep(ctx, r.done)
}

func (r *Registrar) keep(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	g, err := r.registrar.Register(ctx, r.instance) // it tries until ctx ends
	if err != nil {
		_ = r.log.Log("service", r.instance.Service, "err", err)
		return
	}
	select {
	case <-ctx.Done():
	case <-g.Context().Done():
		_ = r.log.Log("service", r.instance.Service, "err", context.Cause(g.Context()))
		return
	}
	if err := g.Deregister(); err != nil {
		_ = r.log.Log("service", r.instance.Service, "err", err)
	}
}

// Deregister takes the instance away.
func (r *Registrar) Deregister() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel == nil {
		return
	}
	r.cancel()
	<-r.done
	r.cancel = nil
}

// An Instancer tells where a service can be reached.
type Instancer struct {
	stop      context.CancelFunc
	following sync.WaitGroup

	mu        sync.Mutex
	last      *sd.Event // nil: nothing yet
	listeners map[chan<- sd.Event]bool
}

// NewInstancer follows a service until Stop. While etcd is away it says nothing new,
// so that endpoints stay as they are.
func NewInstancer(r *discovery.Resolver, service string) *Instancer {
	i := &Instancer{listeners: make(map[chan<- sd.Event]bool)}
	ctx, stop := context.WithCancel(context.Background())
	i.stop = stop
	i.following.Go(func() {
		for s, err := range r.Watch(ctx, service) {
			if ctx.Err() != nil {
				return
			}
			i.tell(event(s, err))
		}
	})
	return i
}

func event(s *discovery.Snapshot, err error) sd.Event {
	if err != nil {
		return sd.Event{Err: err}
	}
	e := sd.Event{Instances: make([]string, 0, len(s.Instances))}
	for _, i := range s.Instances {
		e.Instances = append(e.Instances, i.Addr)
	}
	return e
}

func (i *Instancer) tell(e sd.Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.last = &e
	for ch := range i.listeners {
		ch <- e
	}
}

// Register tells ch of the present instances, and of every change, until
// Deregister.
func (i *Instancer) Register(ch chan<- sd.Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.listeners[ch] = true
	if i.last != nil {
		ch <- *i.last
	}
}

// Deregister ends what Register began. The caller goes on to read ch meanwhile.
func (i *Instancer) Deregister(ch chan<- sd.Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.listeners, ch)
}

// Stop ends the instancer.
func (i *Instancer) Stop() {
	i.stop()
	i.following.Wait()
}
