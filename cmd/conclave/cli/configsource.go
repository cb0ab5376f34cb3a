package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/internal/keyspace"
	recipediscovery "github.com/conclavehq/conclave/recipes/discovery"
)

// A source is what templates read: keys and services, which are followed from
// their first use on. It is owned by one render, which closes it.
type source struct {
	ctx      context.Context
	stop     context.CancelFunc
	app      *app
	t        target
	configs  configs
	registry service[discoveryv1.DiscoveryServiceClient]
	changed  chan struct{} // holds one token when something has changed
	all      sync.WaitGroup

	mu       sync.Mutex
	keys     map[string]*followed[*configv1.Version]
	services map[string]*followed[[]place]
}

// withSource runs work with what templates read at the target.
func (r *render) withSource(ctx context.Context, atMost time.Duration, work func(ctx context.Context) error) error {
	return r.withConfigs(ctx, atMost, func(ctx context.Context, t target, c configs) error {
		d := standardRecipe[discoveryv1.DiscoveryServiceClient]{recipediscovery.Recipe{}, nil, discoveryv1.NewDiscoveryServiceClient}
		return withService(ctx, r.app, d, atMost, func(ctx context.Context, _ target, registry service[discoveryv1.DiscoveryServiceClient]) error {
			s := &source{app: r.app, t: t, configs: c, registry: registry, changed: make(chan struct{}, 1),
				keys: make(map[string]*followed[*configv1.Version]), services: make(map[string]*followed[[]place])}
			s.ctx, s.stop = context.WithCancel(ctx)
			defer func() {
				s.stop()
				s.all.Wait()
			}()
			r.src = s
			return work(ctx)
		})
	})
}

// followed is something that a template uses.
type followed[V any] struct {
	known chan struct{} // closed when the first answer is there
	once  sync.Once

	mu   sync.Mutex
	good V
	has  bool
	err  error // why there is nothing good
}

func newFollowed[V any](err error) *followed[V] {
	return &followed[V]{known: make(chan struct{}), err: err}
}

// set is told what is so now. An error takes the place of what was good.
func (f *followed[V]) set(good V, err error) {
	f.mu.Lock()
	f.good, f.has, f.err = good, err == nil, err
	f.mu.Unlock()
	f.once.Do(func() { close(f.known) })
}

// end is told that nothing more will come: what was good stays.
func (f *followed[V]) end(err error) {
	f.mu.Lock()
	if !f.has {
		f.err = err
	}
	f.mu.Unlock()
	f.once.Do(func() { close(f.known) })
}

// get waits for the first answer.
func (f *followed[V]) get(ctx context.Context) (V, error) {
	select {
	case <-f.known:
	case <-ctx.Done():
		return *new(V), context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.good, f.err
}

func (s *source) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// errNoValue says that a template uses a key that has no value.
var errNoValue = errors.New("has no value")

// text is the function config of templates.
func (s *source) text(key string) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	v, err := s.key(key).get(s.ctx)
	if err != nil {
		return "", err
	}
	return string(valueOf(v)), nil
}

// textOr is the function configOr: only a key without a value has the other one.
func (s *source) textOr(key, otherwise string) (string, error) {
	text, err := s.text(key)
	if errors.Is(err, errNoValue) {
		return otherwise, nil
	}
	return text, err
}

func (s *source) key(key string) *followed[*configv1.Version] {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.keys[key]
	if f != nil {
		return f
	}
	f = newFollowed[*configv1.Version](noValue(key))
	s.keys[key] = f
	w := keyWatch{app: s.app, t: s.t, c: s.configs, key: key}
	w.tell = func(v *configv1.Version) error {
		s.take(f, key, v)
		return nil
	}
	s.all.Go(func() { f.end(explain(s.ctx, s.t, w.run(s.ctx))) })
	return f
}

func noValue(key string) error {
	return &Error{Exit: ExitNotFound, Code: codeName(codes.NotFound), Reason: "not_found", cause: errNoValue,
		Message: fmt.Sprintf("config %q: has no value", key), Hint: "set it with: conclave config set " + quoted(key) + " VALUE"}
}

// take keeps what is good. A tombstone is somebody's will, and no accident: the
// template does not render any more, and its file stays.
func (s *source) take(f *followed[*configv1.Version], key string, v *configv1.Version) {
	if v.GetProblem() != "" && v.GetRevision() != 0 {
		s.app.note(fmt.Sprintf("config %q: %s", key, problemOf(v)))
	}
	if v.GetDeleted() || v.GetSize() == 0 {
		f.set(nil, noValue(key))
	} else {
		f.set(v, nil) // with a problem it is the last good one
	}
	s.wake()
}

// place is an instance of a service as templates have it.
type place struct {
	Service, ID, Addr, Host, Port string
	Zone, Version, State          string
	Weight                        int32
	Tags                          []string
	Metadata                      map[string]string
}

// instances is the function service of templates. A service that nobody offers is
// an error: a list of nobody is no list to send requests to.
func (s *source) instances(name string) ([]place, error) {
	all, err := s.instancesOrNone(name)
	if err == nil && len(all) == 0 {
		return nil, &Error{Exit: ExitNotFound, Code: codeName(codes.NotFound), Reason: "not_found",
			Message: fmt.Sprintf("service %q: has no instance", name), Hint: "a template that can do without has serviceOrNone"}
	}
	return all, err
}

// instancesOrNone is the function serviceOrNone.
func (s *source) instancesOrNone(name string) ([]place, error) {
	if err := keyspace.CheckName("name", name); err != nil {
		return nil, usage("invalid_name", "", "service: %s", err)
	}
	return s.service(name).get(s.ctx)
}

func (s *source) service(name string) *followed[[]place] {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.services[name]
	if f != nil {
		return f
	}
	f = newFollowed[[]place](nil)
	s.services[name] = f
	s.all.Go(func() {
		seen := ""
		err := s.app.keepAsking(s.ctx, s.t, fmt.Sprintf("service %q", name), func() string { return seen }, func() error {
			return s.registry.Do(s.ctx, func(cc grpc.ClientConnInterface) error {
				return s.followService(s.registry.client(cc), name, func(resp *discoveryv1.WatchResponse) {
					seen = fmt.Sprint(resp.GetRevision())
					f.set(addressesOf(resp), nil)
					s.wake()
				})
			})
		})
		f.end(explain(s.ctx, s.t, err))
	})
	return f
}

func (s *source) followService(at discoveryv1.DiscoveryServiceClient, name string, tell func(*discoveryv1.WatchResponse)) error {
	stream, err := at.Watch(s.ctx, &discoveryv1.WatchRequest{Namespace: s.app.namespace(s.t), Name: name})
	if err != nil {
		return err
	}
	for {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		tell(resp)
	}
}

func addressesOf(resp *discoveryv1.WatchResponse) []place {
	all := make([]place, 0, len(resp.GetInstances()))
	for _, i := range resp.GetInstances() {
		host, port, err := net.SplitHostPort(i.GetAddr())
		if err != nil {
			host = i.GetAddr()
		}
		all = append(all, place{Service: i.GetService(), ID: i.GetId(), Addr: i.GetAddr(), Host: host, Port: port, Zone: i.GetZone(),
			Version: i.GetVersion(), State: i.GetState(), Weight: i.GetWeight(), Tags: i.GetTags(), Metadata: i.GetMetadata()})
	}
	return all
}
