package router

import (
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/internal/incall"
	"github.com/conclavehq/conclave/internal/reason"
)

// A handler serves a call; a layer wraps the handler that comes after it. Layers
// are put together once for each method, so that a call costs no closures.
type (
	handler func(c *call) error
	layer   func(rt *route, next handler) handler
)

// A route is the way of a method's calls.
type route struct {
	method  *Method
	service *service
	enter   handler // from the outside up to the choice of the service
	inner   handler // from there to the service
}

// A backend is what serves the calls of a service.
type backend interface {
	// ready reports whether acquire would succeed.
	ready() bool
	// acquire returns what serves one call and what is called when that has
	// ended; ok is false if the call has to wait for a change.
	acquire() (serve server, release func(), ok bool)
	// down says why a call that cannot be served need not wait; empty: it may.
	down() string
}

// A server serves one call of a method.
type server interface {
	serve(m *Method, stream grpc.ServerStream) error
}

func (r *Router) newRoute(sv *service, m *Method) *route {
	rt := &route{method: m, service: sv}
	rt.inner = r.serve
	for _, l := range []layer{r.resolveSession, r.trace, r.limitRead, r.limitCaller, r.authorize} {
		rt.inner = l(rt, rt.inner)
	}
	rt.enter = r.outside(rt, r.choose)
	return rt
}

// outside wraps what every call passes, known or unknown.
func (r *Router) outside(rt *route, h handler) handler {
	for _, l := range []layer{r.limitCalls, r.enlist, r.recoverPanic, r.observe} {
		h = l(rt, h)
	}
	return h
}

// unknownRoute is for calls of what nobody serves: they are counted and refused.
func (r *Router) unknownRoute() *route {
	rt := &route{}
	rt.enter = r.outside(rt, func(c *call) error {
		full, _ := grpc.MethodFromServerStream(c.ServerStream)
		return r.nobody(full)
	})
	return rt
}

// nobody is the answer to calls of what nobody serves. While the host does not
// serve as a whole, somebody may soon.
func (r *Router) nobody(full string) error {
	if t := r.table.Load(); !t.serving {
		return restarting("the host is starting, or stopping; try again")
	}
	return unimplemented(full)
}

// unimplemented says what is missing in the words of the HTTP side.
func unimplemented(full string) error {
	service, method, _ := strings.Cut(strings.TrimPrefix(full, "/"), "/")
	return reason.Errorf(codes.Unimplemented, "unknown_method", "nobody serves %s of %s", method, service)
}

// choose finds who serves the call now. It waits for a service that restarts,
// which may come back with another descriptor and so with another chain.
func (r *Router) choose(c *call) error {
	full := c.route.method.FullName
	var over <-chan time.Time
	for {
		t := r.table.Load()
		rt := t.routes[full]
		if rt == nil {
			return r.nobody(full)
		}
		c.route = rt
		if done, err := rt.try(c); done {
			return err
		}
		if why := rt.service.backend.down(); why != "" {
			return restarting(why)
		}
		if over == nil {
			over = time.After(r.hold)
		}
		select {
		case <-t.changed:
		case <-over:
			return restarting("the recipe is restarting; try again")
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
}

func restarting(text string) error {
	return reason.Errorf(codes.Unavailable, "recipe_restarting", "%s", text)
}

// try serves the call unless the service restarts; done says that it did.
func (rt *route) try(c *call) (done bool, err error) {
	s := rt.service.set
	c.open.Store(rt.method.class == streams)
	c.set.Store(s) // before entering: whoever ends the set's calls sees every one that is in
	if !s.users.enter() {
		return false, nil
	}
	defer s.users.leave()
	serve, release, ok := rt.service.backend.acquire()
	if !ok {
		return false, nil
	}
	if release != nil {
		defer release()
	}
	c.server = serve
	if _, reads := serve.(pipelines); rt.method.Descriptor.IsStreamingClient() && !reads {
		c.startPump()
	}
	return true, rt.inner(c)
}

// serve is the end of the chain.
func (r *Router) serve(c *call) error {
	m := c.route.method
	if c.md == nil { // of a trusted caller: read once, for all who ask
		c.md, _ = metadata.FromIncomingContext(c.ctx)
	}
	c.ctx = incall.With(c.transport(), c)
	used := *r.used.Load()
	if len(used) == 0 {
		return c.server.serve(m, c)
	}
	info := &grpc.StreamServerInfo{
		FullMethod: m.FullName, IsClientStream: m.Descriptor.IsStreamingClient(), IsServerStream: m.Descriptor.IsStreamingServer(),
	}
	return chain(used, info, func(_ any, ss grpc.ServerStream) error { return c.server.serve(m, ss) })(nil, c)
}

func chain(used []grpc.StreamServerInterceptor, info *grpc.StreamServerInfo, last grpc.StreamHandler) grpc.StreamHandler {
	if len(used) == 0 {
		return last
	}
	next := chain(used[1:], info, last)
	return func(srv any, ss grpc.ServerStream) error { return used[0](srv, ss, info, next) }
}
