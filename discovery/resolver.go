package discovery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sync"
	"sync/atomic"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// A Resolver answers where a service can be reached, from memory. All resolvers
// of one client with the same options share one watch per service. It is safe for
// concurrent use.
type Resolver struct {
	c       *clientv3.Client
	o       options
	invalid error

	feeds atomic.Pointer[map[string]*feed] // by service; never changed, only replaced

	mu     sync.Mutex
	hub    *hub // nil until the first service is asked for
	closed chan struct{}
	over   atomic.Bool // set under mu
}

// NewResolver returns a resolver for the services of a namespace. It does no
// I/O. Close ends it.
func NewResolver(c *clientv3.Client, opts ...Option) *Resolver {
	o, err := newOptions(opts)
	return &Resolver{c: c, o: o, invalid: err, closed: make(chan struct{})}
}

// Resolve returns what is known of a service. The first call for a service reads
// it from etcd, and waits for that until ctx ends; later ones are answered from
// memory, without allocating anything, whatever etcd does: a snapshot that may be
// out of date says so.
//
// A service that nobody registered is an empty snapshot, and no error. Errors are
// core.ErrInvalid, [ErrClosed], ctx.Err() if etcd has not answered yet, and what
// etcd says if it refuses.
func (r *Resolver) Resolve(ctx context.Context, service string) (*Snapshot, error) {
	if m := r.feeds.Load(); m != nil {
		if f := (*m)[service]; f != nil {
			if s := f.cell.Load().snap; s != nil {
				f.touch()
				return s, nil
			}
		}
	}
	for {
		f, err := r.feed(service, 0)
		if err != nil {
			return nil, err
		}
		if s, err := r.wait(ctx, f); !errors.Is(err, errForgotten) {
			return s, err
		}
	}
}

// errForgotten says that a feed ended since nobody had used it for long; the next
// one is as good.
var errForgotten = errors.New("forgotten")

// touch notes that the feed is used. Reading first keeps the line shared.
func (f *feed) touch() {
	if !f.used.Load() {
		f.used.Store(true)
	}
}

// feed returns the feed of a service, with so many more who watch it.
func (r *Resolver) feed(service string, watching int64) (*feed, error) {
	err := r.invalid
	if err == nil {
		err = checkService(r.o.namespace, service)
	}
	if err != nil {
		return nil, fmt.Errorf("service %q: %w", service, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over.Load() {
		return nil, fmt.Errorf("service %q: resolver: %w", service, ErrClosed)
	}
	var feeds map[string]*feed
	if m := r.feeds.Load(); m != nil {
		if f := (*m)[service]; f != nil {
			f.users.Add(watching)
			f.touch()
			return f, nil
		}
		feeds = maps.Clone(*m)
	} else {
		feeds = make(map[string]*feed, 1)
	}
	if r.hub == nil {
		r.hub = hubs.join(r)
	}
	f := r.hub.feed(feedKey{r.o.namespace, service, r.o.reader}, r.o.log)
	f.users.Add(watching)
	f.touch()
	feeds[service] = f
	r.feeds.Store(&feeds)
	return f, nil
}

// forget drops a feed that has ended.
func (r *Resolver) forget(f *feed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.feeds.Load()
	if m == nil || (*m)[f.service] != f {
		return
	}
	feeds := maps.Clone(*m)
	delete(feeds, f.service)
	r.feeds.Store(&feeds)
}

// wait waits for the first answer.
func (r *Resolver) wait(ctx context.Context, f *feed) (*Snapshot, error) {
	for {
		c := f.cell.Load()
		switch {
		case c.snap != nil:
			return c.snap, nil
		case c.err != nil:
			return nil, fmt.Errorf("service %q: %w", f.service, c.err)
		}
		select {
		case <-c.next:
		case <-f.done:
			return nil, errForgotten
		case <-ctx.Done():
			err := context.Cause(ctx)
			if !errors.Is(err, ctx.Err()) {
				err = fmt.Errorf("%w: %w", ctx.Err(), err)
			}
			return nil, fmt.Errorf("service %q: etcd has not answered: %w", f.service, err)
		case <-r.closed:
			return nil, fmt.Errorf("service %q: resolver: %w", f.service, ErrClosed)
		}
	}
}

// Watch yields what is known of a service, and then every change: the present
// state first, and the last one in the end; states between may be left out when
// the loop is slow. It goes on across reconnects, outages and compaction. The
// sequence ends when the loop is left, or with one last pair that has an error:
// that of Resolve, the cause of ctx, or [ErrClosed].
func (r *Resolver) Watch(ctx context.Context, service string) iter.Seq2[*Snapshot, error] {
	return func(yield func(*Snapshot, error) bool) {
		for {
			err := r.follow(ctx, service, func(s *Snapshot) bool { return yield(s, nil) })
			switch {
			case err == nil:
				return
			case !errors.Is(err, errForgotten):
				yield(nil, err)
				return
			}
		}
	}
}

// follow returns nil when the loop was left.
func (r *Resolver) follow(ctx context.Context, service string, yield func(*Snapshot) bool) error {
	f, err := r.feed(service, 1)
	if err != nil {
		return err
	}
	defer f.users.Add(-1)
	if _, err := r.wait(ctx, f); err != nil {
		return err
	}
	var told *Snapshot
	for {
		c := f.cell.Load()
		switch {
		case r.over.Load():
			return fmt.Errorf("service %q: resolver: %w", service, ErrClosed)
		case c.snap != told && !yield(c.snap):
			return nil
		case f.over.Load():
			return errForgotten
		}
		told = c.snap
		select {
		case <-c.next:
		case <-ctx.Done():
			return fmt.Errorf("service %q: %w", service, context.Cause(ctx))
		}
	}
}

// Services lists the services of the namespace that have an instance. It reads
// etcd.
func (r *Resolver) Services(ctx context.Context) ([]Service, error) {
	if r.invalid != nil {
		return nil, fmt.Errorf("services: %w", r.invalid)
	}
	return Services(ctx, r.c, r.o.namespace)
}

// Close ends the resolver, and its watches if no other resolver shares them. It
// is idempotent, and returns nil.
func (r *Resolver) Close() error {
	r.mu.Lock()
	if r.over.Load() {
		r.mu.Unlock()
		return nil
	}
	r.over.Store(true)
	close(r.closed)
	m, h := r.feeds.Swap(nil), r.hub
	r.mu.Unlock()
	if h == nil {
		return nil
	}
	if m != nil {
		for _, f := range *m {
			f.rouse()
			h.release(f)
		}
	}
	hubs.leave(r, h)
	return nil
}
