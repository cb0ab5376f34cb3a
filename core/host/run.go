package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/core/host/callers"
	"github.com/conclavehq/conclave/core/host/edge"
	"github.com/conclavehq/conclave/core/host/session"
	"github.com/conclavehq/conclave/core/host/split"
	"github.com/conclavehq/conclave/core/host/status"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
)

// How the stop's two seconds are shared out.
const (
	drainPatience = 150 * time.Millisecond // for calls that end by themselves
	drainBudget   = 600 * time.Millisecond // for all calls
	closeBudget   = 300 * time.Millisecond // for the recipes
)

// parts are what a host runs, in the order in which they were started.
type parts struct {
	servers  *servers
	router   *router.Router
	edge     *edge.Edge
	late     *lateSessions
	metrics  *prometheus.Registry
	store    *store
	sessions *session.Service
	status   *status.Service
	vitals   *vitals
	own      *router.Registrar // the host's own services
	admin    *router.Registrar // those for administrators; nil: none
	ready    atomic.Bool

	// Guarded by the host's mu.
	instances []*instance
	changing  map[string]bool // being added or removed
	closing   bool            // no more are added

	changes sync.WaitGroup // of changing

	runners sync.WaitGroup
	cancel  context.CancelFunc // of the runners
	failed  chan error         // a runner that ended the host
}

// Start starts the host, and returns when it serves. The ctx bounds the start
// only: when it ends first, whatever had been started has been stopped.
//
// The errors of an embedded member are those of package embedded; an address
// that is taken, a recipe that cannot be opened and an external etcd that does
// not answer are named in the message.
func (h *Host) Start(ctx context.Context) error {
	h.mu.Lock()
	if h.started {
		h.mu.Unlock()
		return errors.New("the host was started before")
	}
	h.started = true
	h.parts = &parts{failed: make(chan error, 1)}
	h.mu.Unlock()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(stopped(h.stopping), func() { cancel(ErrStopped) })
	defer stop()
	if err := h.start(ctx); err != nil {
		err = errors.Join(err, h.shutDown())
		h.finish(err)
		return err
	}
	go h.supervise()
	return nil
}

func (h *Host) start(ctx context.Context) error {
	if err := h.readFile(); err != nil {
		return err
	}
	if h.cfg.Etcd.Mode == Embedded {
		// Of two hosts on one directory the second should be told just that,
		// though the first has its address too.
		if err := embedded.Free(h.cfg.DataDir); err != nil {
			return err
		}
	}
	if err := h.listen(); err != nil {
		return err
	}
	p := h.parts
	store, err := openStore(ctx, h.cfg, h.log, h.opts.onFatal)
	if err != nil {
		return err
	}
	h.mu.Lock()
	p.store = store
	h.mu.Unlock()
	h.listenAdmin()
	p.vitals = &vitals{gatherer: prometheus.DefaultGatherer} // where an embedded etcd registers its own
	p.status = status.New(status.Config{Client: p.store.client, Log: h.log, Name: h.cfg.Name, Version: h.cfg.Version,
		Embedded: p.store.member != nil, Endpoints: p.store.endpoints, Recipes: h.recipeList, Certificates: h.cfg.certificates,
		Sessions: func() int { return p.sessions.Len() }, SessionLimit: h.cfg.Limits.Sessions, Vitals: p.vitals.tell})
	p.sessions = session.New(session.Config{Client: p.store.client, Log: h.log.With("from", "sessions"), Host: h.cfg.Name, Sessions: h.cfg.Limits.Sessions,
		Released: func(r session.Release) { p.status.SessionReleased(r.ID, r.Namespace, r.Owner) }})
	p.late.set(p.store, p.sessions)
	if err := errors.Join(h.publishOwn(), h.publishAdmin()); err != nil {
		return err
	}
	for _, r := range h.recipes {
		i, err := h.open(ctx, r)
		if err != nil {
			return err
		}
		h.enlist(i)
		p.status.RecipeChanged(i.describe())
	}
	p.router.SetServing(true)
	p.ready.Store(true)
	h.run()
	return nil
}

// listen takes the API's address and answers there: that the host lives, and
// that it is not ready yet.
func (h *Host) listen() error {
	p := h.parts
	secret, err := h.cfg.TLS.server(h.log)
	if err != nil {
		return err
	}
	p.metrics = prometheus.NewRegistry()
	for _, c := range append([]prometheus.Collector{hostMetrics{h}, recipeMetrics{h}, certMetrics{h.cfg}}, h.opts.metrics...) {
		if err := p.metrics.Register(c); err != nil {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	who, err := callers.Open(h.cfg.Auth.Callers, h.log)
	if err != nil {
		return configError("auth.callers", "%w", err)
	}
	p.late = new(lateSessions)
	p.router, err = router.New(router.Config{Log: h.log, Metrics: p.metrics, Sessions: p.late, Authorizer: who,
		Limits: router.Limits{Calls: h.cfg.Limits.Calls, MessageBytes: h.cfg.Limits.RequestBytes}})
	if err != nil {
		return err
	}
	web, err := h.web(who)
	if err != nil {
		return err
	}
	l, err := listenAPI(h.cfg.API.Listen)
	if err != nil {
		return err
	}
	p.servers = newServers(p.router, web, h.log)
	h.mu.Lock()
	h.addr = l.Addr()
	h.mu.Unlock()
	p.servers.serve(l, split.Options{TLS: secret, MaxConns: h.cfg.Limits.Connections, Log: h.log})
	return nil
}

// listenAdmin answers on the administrator's socket too. The host serves without
// it where it cannot be made, such as on a file system without sockets.
func (h *Host) listenAdmin() {
	if h.cfg.DataDir == "" {
		return
	}
	l, err := listenAdmin(h.cfg.DataDir)
	if err != nil {
		h.log.Warn("no socket for the administrator", "error", err)
		return
	}
	h.parts.servers.serve(l, split.Options{MaxConns: h.cfg.Limits.Connections, Log: h.log})
}

// run starts what runs beside the recipes.
func (h *Host) run() {
	ctx, cancel := context.WithCancel(context.Background())
	h.parts.cancel = cancel
	if m := h.parts.store.member; m != nil {
		k := &keeper{member: m, client: h.parts.store.client, log: h.log.With("from", "upkeep"), vitals: h.parts.vitals}
		h.parts.runners.Go(func() { k.run(ctx) })
	}
	for _, r := range h.opts.runners {
		h.parts.runners.Go(func() {
			if err := r.Run(ctx, h); err != nil && ctx.Err() == nil {
				select {
				case h.parts.failed <- err:
				default: // one reason is enough
				}
			}
		})
	}
}

// supervise owns the running host: it waits for its end, by request or by
// itself, and clears up.
func (h *Host) supervise() {
	var cause error
	select {
	case <-h.stopping:
	case <-h.parts.store.ended():
		cause = h.parts.store.member.Err()
	case err := <-h.parts.servers.failed:
		cause = fmt.Errorf("the API's listener ended: %w", err)
	case err := <-h.parts.failed:
		cause = err
	}
	err := h.shutDown()
	if cause == nil && err != nil {
		// It has ended, as it was asked to: such as without an etcd that would have
		// answered a recipe's last requests.
		h.log.Warn("the host did not stop in order", "error", err)
		err = nil
	}
	h.finish(errors.Join(cause, err))
}

func (h *Host) finish(err error) {
	h.err = err
	close(h.done)
}

// shutDown ends what was started, in the reverse order.
func (h *Host) shutDown() error {
	p := h.parts
	ctx, cancel := context.WithTimeout(context.Background(), stopBudget)
	defer cancel()
	p.ready.Store(false)
	if p.sessions != nil {
		p.sessions.Stopping() // from now on no connection's end is a caller's death
	}
	if p.cancel != nil {
		p.cancel()
		p.runners.Wait()
	}
	// While others lead, calls here still end as they should.
	var handedOver sync.WaitGroup
	if p.store != nil {
		handedOver.Go(func() { p.store.handOver(ctx) })
	}
	defer handedOver.Wait()
	instances := h.takeAll()
	var err error
	if p.servers != nil {
		err = p.servers.closeListeners()
		draining, done := context.WithTimeout(ctx, drainBudget)
		drainRecipes(draining, instances)
		p.router.Drain() // after the recipes: what waits in them has its own way to end
		err = errors.Join(err, p.servers.drain(draining, drainPatience, p.router.Close))
		done()
	}
	closing, done := context.WithTimeout(ctx, closeBudget)
	for _, i := range slices.Backward(instances) {
		err = errors.Join(err, i.close(closing))
	}
	err = errors.Join(err, h.settled(closing))
	done()
	if p.sessions != nil {
		// A time of their own: recipes that wait for an etcd that is gone use up theirs.
		closing, done = context.WithTimeout(ctx, closeBudget)
		err = errors.Join(err, p.sessions.Stop(closing), p.status.Stop(closing))
		done()
	}
	if p.store != nil {
		err = errors.Join(err, p.store.close())
	}
	return err
}

// Stop ends the host: new connections are refused, calls get a moment to end and
// are then told that the host is stopping, recipes are closed, and the embedded
// member ends. What callers own stands on in etcd. It waits for the end, or for
// ctx; then the stop goes on, and Done tells its end. Later calls only wait. The
// error is Err's, or the context's cause.
func (h *Host) Stop(ctx context.Context) error {
	h.stop.Do(func() { close(h.stopping) })
	h.mu.Lock()
	started := h.started
	h.mu.Unlock()
	if !started {
		return nil
	}
	select {
	case <-h.done:
		return h.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Done is closed when the host has ended, whatever ended it.
func (h *Host) Done() <-chan struct{} { return h.done }

// Err returns nil while the host runs and after a stop that was asked for;
// otherwise what ended it.
func (h *Host) Err() error {
	select {
	case <-h.done:
		return h.err
	default:
		return nil
	}
}

// lateSessions resolves sessions once there is an etcd to ask.
type lateSessions struct {
	there atomic.Pointer[sessionsOf]
}

// sessionsOf is a store and the sessions in it.
type sessionsOf struct {
	store    *store
	sessions *session.Service
}

func (l *lateSessions) set(from *store, s *session.Service) { l.there.Store(&sessionsOf{from, s}) }

// Resolve implements router.Resolver. It refuses while etcd has no leader: what a
// recipe wrote then would have an outcome that nobody knows.
func (l *lateSessions) Resolve(ctx context.Context, id, namespace string) (metadata.MD, error) {
	at := l.there.Load()
	if at == nil {
		return nil, recipe.Errorf(codes.Unavailable, recipe.ReasonNoQuorum, "the host is still waiting for etcd")
	}
	if err := at.store.awaitLeader(ctx); err != nil {
		return nil, err
	}
	return at.sessions.Resolve(ctx, id, namespace)
}

// stopped is a context that ends when the channel is closed.
func stopped(c <-chan struct{}) context.Context { return doneContext{context.Background(), c} }

type doneContext struct {
	context.Context
	done <-chan struct{}
}

func (c doneContext) Done() <-chan struct{} { return c.done }

func (c doneContext) Err() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// ownName is the name under which the host's own services are registered; no
// recipe can have it.
const ownName = "host"

// publishOwn serves the host's own services.
func (h *Host) publishOwn() error {
	p := h.parts
	p.own = p.router.Registrar(ownName, router.AllowReserved())
	sessionv1.RegisterSessionServiceServer(p.own, p.sessions)
	hostv1.RegisterHostServiceServer(p.own, p.status)
	p.own.Pipeline()
	return h.publish(p.own)
}
