package discovery

import (
	"context"
	crand "crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/watch"
)

const (
	// maxKeys is how many keys share a lease: the end of a lease deletes its keys
	// one by one, in one go.
	maxKeys = 1000
	// maxTombs bounds how many farewells are remembered, which saves their
	// instances a round trip if they come back.
	maxTombs = 4096

	firstPause = 50 * time.Millisecond
	maxPause   = time.Second
)

// A Registrar registers instances, and sees to it for ever that they stay
// registered. It is safe for concurrent use.
type Registrar struct {
	s         *core.Session
	c         *clientv3.Client
	opts      options
	invalid   error
	log       *slog.Logger
	commit    *commit.Committer
	streams   watch.Streams
	farewells grave
	clock     revisions

	ctx  context.Context // ends the background work
	stop context.CancelFunc
	wake chan struct{}
	work sync.WaitGroup
	told atomic.Bool // hosts know that the namespace has checks

	mu      sync.Mutex
	running bool
	closing bool
	regs    map[*Registration]struct{} // wanted, or still to be taken away
	current map[string]*Registration   // by key: the one that counts
	shards  []*shard
	tombs   map[string]int64 // revisions of farewells, by key
	end     sync.Once
	ended   chan struct{}
	endErr  error
}

// NewRegistrar returns a registrar for instances in the session's namespace. It
// does no I/O.
//
// Registrations do not depend on the session's lease: the registrar grants
// leases of its own from s.Client(), with the session's TTL, one for every 1,000
// keys, and renews them. So they survive the expiry of the session. They end
// when the session is closed, also after its expiry, or the registrar: then
// everything is deregistered.
func NewRegistrar(s *core.Session, opts ...Option) *Registrar {
	o, err := newOptions(opts)
	r := &Registrar{s: s, c: s.Client(), opts: o, invalid: err, log: s.Engine().Log(),
		commit: commit.New(commit.Config{KV: s.Client(), Timeout: min(5*time.Second, s.TTL()/2)}),
		wake:   make(chan struct{}, 1), ended: make(chan struct{}),
		regs: make(map[*Registration]struct{}), current: make(map[string]*Registration), tombs: make(map[string]int64)}
	r.farewells.r, r.clock.c = r, r.c
	// Without the client there is nothing left to keep.
	r.ctx, r.stop = context.WithCancel(s.Client().Ctx())
	return r
}

// Register registers an instance: it returns once etcd has it, and from then on
// the registrar puts it back whenever it is missing, until Deregister. ctx
// bounds the call only; when it ends first nothing is registered, and the error
// is ctx.Err().
//
// If the instance is registered already, here or elsewhere, this registration
// takes its place, and the other one ends with [ErrSuperseded].
//
// Errors are core.ErrInvalid, core.ErrSessionClosed and [ErrClosed], and what
// etcd refuses for good. While etcd cannot be reached it keeps trying.
func (r *Registrar) Register(ctx context.Context, i Instance) (*Registration, error) {
	if r.invalid != nil {
		return nil, fmt.Errorf("discovery: %w", r.invalid)
	}
	i, err := i.normal()
	if err != nil {
		return nil, named(i.Service, i.ID, err)
	}
	if err := r.start(); err != nil {
		return nil, named(i.Service, i.ID, err)
	}
	g := newRegistration(ctx, r, i)
	if !r.add(g) {
		return nil, named(i.Service, i.ID, ErrClosed)
	}
	if err := g.first(ctx); err != nil {
		r.drop(g)
		g.end(err)
		g.abandon()
		return nil, named(i.Service, i.ID, err)
	}
	r.nudge()
	r.tellCheckers(ctx, i)
	return g, nil
}

// tellCheckers says once that the namespace has checks. Whoever may not write in
// the default namespace names this one in the configuration of hosts.
func (r *Registrar) tellCheckers(ctx context.Context, i Instance) {
	if len(i.Checks) == 0 || r.told.Load() {
		return
	}
	if err := tellCheckers(ctx, r.c, r.s.Namespace()); err != nil {
		r.log.Warn("hosts were not told that the namespace has checks", "namespace", r.s.Namespace(), "error", err)
		return
	}
	r.told.Store(true)
}

// start begins the background work, once.
func (r *Registrar) start() error {
	if errors.Is(context.Cause(r.s.Context()), core.ErrSessionClosed) {
		return core.ErrSessionClosed
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return ErrClosed
	}
	if r.running {
		return nil
	}
	// Its expiry changes nothing: the registrar goes on by itself. What cannot be
	// told to etcd at the end ends with the leases.
	if !r.s.OnClose(func() { _ = r.Close() }) {
		return core.ErrSessionClosed
	}
	r.running = true
	r.work.Go(r.keep)
	return nil
}

// add takes a registration in, and finds it a shard.
func (r *Registrar) add(g *Registration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return false
	}
	r.regs[g] = struct{}{}
	if before := r.current[g.place.key]; before != nil {
		g.before = before
	}
	r.current[g.place.key] = g
	g.place.rev = r.tombs[g.place.key]
	g.shard = r.room(g.keys())
	return true
}

// room returns a shard with room for n keys. It is called with the lock held.
func (r *Registrar) room(n int) *shard {
	for _, h := range r.shards {
		if h.keys+n <= maxKeys {
			h.keys += n
			return h
		}
	}
	h := &shard{r: r, keys: n, turn: make(chan struct{}, 1), lost: make(chan struct{}, 1)}
	r.shards = append(r.shards, h)
	r.work.Go(h.run)
	return h
}

// drop takes a registration out of those that are wanted.
func (r *Registrar) drop(g *Registration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current[g.place.key] == g {
		delete(r.current, g.place.key)
		if g.before != nil {
			r.current[g.place.key] = g.before
		}
	}
}

// forget ends the registrar's interest in a registration that is gone from etcd.
func (r *Registrar) forget(g *Registration, tomb int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, here := r.regs[g]; !here {
		return
	}
	delete(r.regs, g)
	g.shard.keys -= g.keys()
	if tomb != 0 {
		if len(r.tombs) >= maxTombs {
			clear(r.tombs)
		}
		r.tombs[g.place.key] = tomb
	}
}

// do sends one transaction, and waits for its result or the end of ctx.
func (r *Registrar) do(ctx context.Context, t commit.Txn) (commit.Result, error) {
	type answer struct {
		res commit.Result
		err error
	}
	answers := make(chan answer, 1)
	ticket := r.commit.Run(ctx, t.Scope, func() commit.Txn { return t }, func(res commit.Result, err error) { answers <- answer{res, err} })
	select {
	case a := <-answers:
		if a.err != nil && ctx.Err() != nil && errors.Is(a.err, commit.ErrUnknown) {
			return a.res, fmt.Errorf("%w: %w", commit.ErrUnknown, context.Cause(ctx))
		}
		return a.res, a.err
	case <-ctx.Done():
	}
	if ticket.Withdraw() {
		return commit.Result{}, context.Cause(ctx)
	}
	return commit.Result{}, fmt.Errorf("%w: %w", commit.ErrUnknown, context.Cause(ctx))
}

// nudge makes the keeper look.
func (r *Registrar) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Close deregisters everything, and ends the registrar. It takes at most the
// session's TTL, and is idempotent. An error says that etcd could not be told;
// what is registered then ends with its leases, within the TTL.
func (r *Registrar) Close() error {
	r.end.Do(func() {
		defer close(r.ended)
		r.endErr = r.close()
	})
	<-r.ended
	return r.endErr
}

func (r *Registrar) close() error {
	r.mu.Lock()
	r.closing = true
	regs := make([]*Registration, 0, len(r.regs))
	for g := range r.regs {
		regs = append(regs, g)
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), r.s.TTL())
	defer cancel()
	err := forEach(regs, func(g *Registration) error {
		g.end(fmt.Errorf("%w: %w", core.ErrReleased, core.ErrSessionClosed))
		return g.letGo(ctx)
	})
	r.stop()
	r.work.Wait()
	for _, g := range regs {
		g.unwatch()
	}
	for _, h := range r.shards {
		err = errors.Join(err, h.revoke(ctx))
	}
	r.commit.Close(ctx)
	if err != nil {
		return fmt.Errorf("discovery: deregister: %w: %w", core.ErrUnknownOutcome, err)
	}
	return nil
}

// forEach runs f for all of them, many at a time, and joins what fails.
func forEach(regs []*Registration, f func(*Registration) error) error {
	const atOnce = 256
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	errs := make([]error, len(regs))
	for k, g := range regs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[k] = f(g)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// reconnect makes the client dial at once. After a long outage gRPC waits for up
// to two minutes before it tries again, much longer than a registry may.
func reconnect(c *clientv3.Client) {
	if conn := c.ActiveConnection(); conn != nil { // nil in process
		conn.ResetConnectBackoff()
	}
}

// A pause grows from one failure to the next.
type pause time.Duration

func (p *pause) next() time.Duration {
	d := time.Duration(*p)
	if d == 0 {
		d = firstPause
	}
	*p = pause(min(2*d, maxPause))
	return d/2 + rand.N(d)
}

// wait sleeps, or returns why ctx ended.
func (p *pause) wait(ctx context.Context) error {
	timer := time.NewTimer(p.next())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// hopeless reports whether an error will be the same however often it is tried.
func hopeless(err error) bool {
	return errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrUserEmpty) ||
		errors.Is(err, rpctypes.ErrRequestTooLarge) || errors.Is(err, core.ErrInvalid) ||
		errors.Is(err, ErrSuperseded) || errors.Is(err, ErrLost)
}

// newReg names a registration: no other ever has the name.
func newReg() string { return crand.Text() }
