package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/internal/pipewire"
	"github.com/conclavehq/conclave/internal/reason"
)

// The defaults of [Config].
const (
	DefaultHold    = time.Second
	DefaultMaxRead = time.Minute
)

// ErrStopping is the cause with which [Router.Close] ends the contexts of calls.
var ErrStopping = errors.New("router: the host is stopping")

// Config says what a router stands on. Its zero value is a router that allows
// everything within the default limits.
type Config struct {
	// Log is told of panics and of errors whose text is kept from callers. Nil: nobody is.
	Log *slog.Logger
	// Metrics is where the router registers its metrics. Nil: it keeps none.
	Metrics prometheus.Registerer
	// Traces makes the spans of calls. Nil: the W3C keys pass untouched.
	Traces trace.TracerProvider
	// Sessions resolves the sessions that methods name. Nil: a session is left to the recipe.
	Sessions Resolver
	// Authorizer decides who may call what. Nil: everybody may call everything.
	Authorizer Authorizer
	// Limits bounds what calls may take.
	Limits Limits
	// Hold is how long a call waits for a service that restarts. 0: DefaultHold. Negative: it does not wait.
	Hold time.Duration
	// MaxRead is the longest time of a unary method without side effects. 0: DefaultMaxRead. Negative: as long as it likes.
	MaxRead time.Duration
	// Trusted says that calls come from a host that has passed them through a chain of its own:
	// their metadata stand, sessions and authorisation are settled. It is for a plugin's process.
	Trusted bool
}

// Router hands calls to services that come and go. It is safe for concurrent use.
type Router struct {
	log        *slog.Logger
	metrics    *metrics
	tracer     trace.Tracer
	sessions   Resolver
	authorizer Authorizer
	limits     *limits
	hold       time.Duration
	maxRead    time.Duration
	trusted    bool

	table atomic.Pointer[table]
	mu    sync.Mutex // who changes the table

	used    atomic.Pointer[[]grpc.StreamServerInterceptor]
	calls   register
	pumps   *group
	workers *workers
	unknown *route

	draining context.Context // ends with Drain
	drain    context.CancelFunc
}

// New returns a router that serves health and reflection and nothing else. It
// reports itself as not serving until [Router.SetServing]. It fails if its
// metrics cannot be registered.
func New(cfg Config) (*Router, error) {
	r := &Router{
		log: cfg.Log, sessions: cfg.Sessions, authorizer: cfg.Authorizer, trusted: cfg.Trusted,
		limits: newLimits(cfg.Limits), pumps: newGroup(), workers: newWorkers(),
		hold: orDefault(cfg.Hold, DefaultHold), maxRead: orDefault(cfg.MaxRead, DefaultMaxRead),
	}
	r.draining, r.drain = context.WithCancel(context.Background())
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if cfg.Traces != nil {
		r.tracer = cfg.Traces.Tracer("github.com/conclavehq/conclave/internal/router")
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	r.metrics = m
	r.calls.idle = make(chan struct{})
	r.used.Store(&[]grpc.StreamServerInterceptor{})
	r.table.Store(newTable(nil, false))
	r.unknown = r.unknownRoute()
	if err := r.registerOwn(); err != nil {
		return nil, err
	}
	return r, nil
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return max(d, 0)
}

// Use adds interceptors to the end of the chain: they see the call as the service
// will, with its session and identity in the metadata, and [MethodFrom] its
// context. Calls that have passed that place are not affected.
func (r *Router) Use(interceptors ...grpc.StreamServerInterceptor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	used := append([]grpc.StreamServerInterceptor{}, *r.used.Load()...)
	used = append(used, interceptors...)
	r.used.Store(&used)
}

// Handle serves one call. It is a grpc.StreamHandler: grpc-go's handler for
// unknown services, and the entrance for other transports, whose stream must
// encode and decode with [Codec], have a grpc.ServerTransportStream in its
// context, and let a RecvMsg that waits return once Handle has returned. The
// error is a gRPC status or nil.
func (r *Router) Handle(_ any, stream grpc.ServerStream) error {
	full, ok := grpc.MethodFromServerStream(stream)
	if !ok {
		return reason.Errorf(codes.Internal, "internal", "the stream has no method")
	}
	rt := r.table.Load().routes[full]
	if rt == nil {
		rt = r.unknown
	}
	ctx := stream.Context()
	return rt.enter(&call{ServerStream: stream, router: r, route: rt, ctx: ctx, own: ending{Context: ctx}})
}

// ServerOptions returns what a grpc.Server needs so that every call that it has
// no service for enters the router.
func (r *Router) ServerOptions() []grpc.ServerOption {
	options := []grpc.ServerOption{grpc.ForceServerCodecV2(Codec()), grpc.UnknownServiceHandler(r.Handle)}
	if most := r.limits.messageBytes; most > 0 {
		// grpc-go answers in words of its own what is over its limit, so the
		// router's is met first; grpc-go's stays the bound on memory.
		options = append(options, grpc.MaxRecvMsgSize(max(4*most, pipewire.MaxMessage)))
	}
	return options
}

// Drain lets pipelines end: their further calls are refused with UNAVAILABLE,
// host_stopping, and those with none under way end. Other transports refuse new
// calls by themselves. It is idempotent.
func (r *Router) Drain() { r.drain() }

// Close ends the router: new calls are refused, the contexts of those in flight
// end with [ErrStopping] as their cause, and Close waits for them. Callers are
// told UNAVAILABLE, host_stopping. The error is ctx's, if calls were left; then
// it can be called again.
func (r *Router) Close(ctx context.Context) error {
	r.SetServing(false)
	r.drain()
	idle := r.calls.close(ErrStopping)
	if err := wait(ctx, idle); err != nil {
		return fmt.Errorf("router: calls did not end: %w", err)
	}
	r.workers.close()
	if err := wait(ctx, r.workers.all.idle); err != nil {
		return fmt.Errorf("router: calls did not end: %w", err)
	}
	r.pumps.close()
	if err := wait(ctx, r.pumps.idle); err != nil {
		return fmt.Errorf("router: transports did not let go of ended calls: %w", err)
	}
	return nil
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
