package discovery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/ownership"
	"github.com/conclavehq/conclave/internal/watch"
)

// A Registration is an instance that is registered, until Deregister or until a
// later registration of the same instance. It is safe for concurrent use.
type Registration struct {
	r      *Registrar
	ctx    ownership.Context
	before *Registration // of the same instance, here; it ends when this one stands
	shard  *shard
	turn   chan struct{} // held by whoever writes or reads the key

	service, id string
	define      string // the key of the definition of its checks
	slots       int    // keys on the shard's lease, as it counts them

	// Of whoever has the turn; key and reg never change.
	place place

	mu     sync.Mutex
	inst   Instance
	rec    record
	seen   int64 // largest revision of an event of the key
	doubt  bool  // the key may not say what is wanted
	blind  bool  // what stands in the key is not known
	over   bool  // it is to be taken away, or was
	gone   bool  // nothing of it is left in etcd
	cmp    clientv3.Cmp
	token  core.Token
	state  State     // what readers see
	health *Health   // likewise
	bare   bool      // what goes with the key is missing
	since  time.Time // it has stood; zero: not yet
	retry  time.Time // not before
	pauses pause
	watch  *watch.Watch
}

func newRegistration(ctx context.Context, r *Registrar, i Instance) *Registration {
	g := &Registration{r: r, service: i.Service, id: i.ID, inst: i, turn: make(chan struct{}, 1),
		place: place{key: instanceKey(r.s.Namespace(), i.Service, i.ID), reg: newReg()}}
	g.rec = recordOf(i, g.place.reg, r.s, time.Now())
	g.define, g.slots = checkKey(r.s.Namespace(), i.Service, i.ID), 1
	if r.opts.naming != "" {
		g.slots++
	}
	if len(i.Checks) > 0 {
		g.slots++
	}
	g.ctx.Init(ctx, ownership.JudgeFunc(func() error { return nil }))
	return g
}

// Context ends when the registration does: by Deregister, by the end of the
// registrar, with core.ErrReleased; or when a later registration took its place,
// with [ErrSuperseded]. It does not end when etcd is away, a lease is lost or the
// key is deleted: all that is mended.
func (g *Registration) Context() context.Context { return &g.ctx }

// Token names this incarnation: larger for every later registration of the same
// instance.
func (g *Registration) Token() core.Token {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.token
}

// IsOwner is the comparison that holds in etcd as long as the instance's key is
// as it was last written or read here.
func (g *Registration) IsOwner() clientv3.Cmp {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cmp
}

// Instance returns what is registered; its State is what readers see, an
// operator's mark included.
func (g *Registration) Instance() Instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := g.inst
	i.State, i.Token, i.Owner, i.Since, i.Health = g.state, g.token, g.rec.Owner, *g.rec.Since, g.health
	return i
}

// Update replaces what is registered by i, whose Service and ID must be the same
// or empty. It is what the registrar restores from now on, also if Update returns
// an error that says that etcd has not heard of it yet: ctx bounds the waiting.
// The token stays. An ended registration is [ErrLost].
func (g *Registration) Update(ctx context.Context, i Instance) error {
	if i.Service == "" {
		i.Service = g.service
	}
	if i.ID == "" {
		i.ID = g.id
	}
	i, err := i.normal()
	if err == nil && (i.Service != g.service || i.ID != g.id) {
		err = fmt.Errorf("%w: service, id: an update cannot change them", core.ErrInvalid)
	}
	if err != nil {
		return named(g.service, g.id, err)
	}
	return g.amend(ctx, func(Instance) (Instance, bool) { return i, true })
}

// amend makes of what is registered what change makes of it, unless that says no.
func (g *Registration) amend(ctx context.Context, change func(now Instance) (Instance, bool)) error {
	g.mu.Lock()
	if g.over {
		g.mu.Unlock()
		return g.lost()
	}
	i, yes := change(g.inst)
	if yes {
		g.inst, g.doubt = i, true
		g.rec.say(i)
	}
	g.mu.Unlock()
	if !yes {
		return nil
	}
	err := g.settle(ctx)
	if err == nil {
		g.r.tellCheckers(ctx, i)
	}
	if errors.Is(err, ErrLost) { // which is named already
		return err
	}
	return named(g.service, g.id, err)
}

// Drain says that the instance takes no new requests, and waits as long as
// [WithDrainWait] says, for readers to have taken note. Then end what is under
// way, and Deregister. ctx bounds the waiting.
func (g *Registration) Drain(ctx context.Context) error {
	err := g.amend(ctx, func(i Instance) (Instance, bool) {
		i.State = Draining
		return i, true
	})
	if err != nil {
		return err
	}
	timer := time.NewTimer(g.r.opts.drainWait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return named(g.service, g.id, context.Cause(ctx))
	case <-g.ctx.Done():
		return g.lost()
	}
}

// Deregister takes the instance away, with a word to readers that it went by
// intent. It is bounded by the session's TTL and idempotent. After
// core.ErrUnknownOutcome the registrar goes on trying. A registration that was
// superseded is [ErrLost].
func (g *Registration) Deregister() error {
	if cause := g.ctx.Check(); cause != nil && !errors.Is(cause, core.ErrReleased) {
		return g.lost()
	}
	g.end(core.ErrReleased)
	g.r.drop(g)
	ctx, cancel := context.WithTimeout(context.Background(), g.r.s.TTL())
	defer cancel()
	if err := g.letGo(ctx); err != nil {
		g.suspect(false)
		g.r.nudge()
		return named(g.service, g.id, fmt.Errorf("%w: %w", core.ErrUnknownOutcome, err))
	}
	return nil
}

// end ends the registration here: from now on nobody puts it again.
func (g *Registration) end(cause error) {
	g.mu.Lock()
	g.over = true
	g.mu.Unlock()
	g.ctx.End(cause)
}

func (g *Registration) lost() error {
	return named(g.service, g.id, fmt.Errorf("%w: %w", ErrLost, g.ctx.Check()))
}

// suspect makes the keeper see to the key; with blind, after a look at it.
func (g *Registration) suspect(blind bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.doubt, g.blind = true, g.blind || blind
}

// take waits for the turn.
func (g *Registration) take(ctx context.Context) error {
	select {
	case g.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// first puts the instance for the first time.
func (g *Registration) first(ctx context.Context) error {
	if err := g.settle(ctx); err != nil {
		return err
	}
	if g.before != nil { // which finds that out when it looks
		g.before.suspect(true)
		g.before = nil
		g.r.nudge()
	}
	return nil
}

// settle makes etcd say what is wanted, and tries again until it does or ctx
// ends.
func (g *Registration) settle(ctx context.Context) error {
	var failures pause
	for {
		err := g.sync(ctx)
		if errors.Is(err, ErrSuperseded) {
			g.supersede()
			return g.lost()
		}
		if err == nil || hopeless(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		g.r.log.Debug("registration failed", "key", g.place.key, "error", err)
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			reconnect(g.r.c)
		}
		if failures.wait(ctx) != nil {
			return context.Cause(ctx)
		}
		if g.r.ctx.Err() != nil {
			return ErrClosed
		}
	}
}

// sync makes etcd say what is wanted, once.
func (g *Registration) sync(ctx context.Context) error {
	if err := g.take(ctx); err != nil {
		return err
	}
	defer func() { <-g.turn }()
	g.mu.Lock()
	want, over := g.rec, g.over
	look := g.blind || g.seen > g.place.rev
	if g.bare {
		g.place.beside = "" // so that it is put again
	}
	g.doubt, g.blind, g.bare = false, false, false
	g.mu.Unlock()
	if over {
		return g.lost()
	}
	err := g.write(ctx, want, look)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.doubt, g.blind = true, look
		return err
	}
	want = g.place.completed(want)
	g.cmp, g.token, g.state, g.health, g.pauses = g.place.isOwner(), g.place.token(), want.effective(), want.Health.public(), 0
	if g.since.IsZero() {
		g.since = time.Now()
	}
	return nil
}

func (g *Registration) write(ctx context.Context, want record, look bool) error {
	if look {
		resp, err := g.read(ctx)
		if err != nil {
			return err
		}
		var kv *mvccpb.KeyValue
		if len(resp.Kvs) > 0 {
			kv = resp.Kvs[0]
		}
		if err := g.place.see(kv, resp.Header.Revision); err != nil {
			return err
		}
	}
	if g.place.inc == 0 {
		now, err := g.r.clock.now(ctx)
		if err != nil {
			return err
		}
		g.place.inc = now
	}
	lease, err := g.shard.grant(ctx)
	if err != nil {
		return err
	}
	err = g.place.put(ctx, g.r.do, want, lease, g.beside)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		g.shard.gone(lease)
	}
	return err
}

func (g *Registration) read(ctx context.Context) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	return g.r.c.Get(ctx, g.place.key)
}

// letGo takes the registration away, and tries again until ctx ends.
func (g *Registration) letGo(ctx context.Context) error {
	var failures pause
	for {
		err := g.takeAway(ctx)
		if err == nil || g.r.ctx.Err() != nil || g.r.c.Ctx().Err() != nil {
			return err
		}
		reconnect(g.r.c)
		if failures.wait(ctx) != nil {
			return err
		}
	}
}

// takeAway makes etcd forget the registration.
func (g *Registration) takeAway(ctx context.Context) error {
	if err := g.take(ctx); err != nil {
		return err
	}
	defer func() { <-g.turn }()
	if g.isGone() {
		return nil
	}
	lease, err := g.r.farewells.lease(ctx)
	if err != nil {
		return err
	}
	gone := func() []clientv3.Op { return g.goneBeside(g.place.defined) }
	err = g.place.leave(ctx, g.r.do, lease, gone)
	switch {
	case errors.Is(err, rpctypes.ErrNoSpace):
		err = g.place.leave(ctx, g.r.do, 0, gone)
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		g.r.farewells.forget(lease)
	}
	if err != nil {
		return err
	}
	g.finish(g.place.rev)
	return nil
}

func (g *Registration) isGone() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.gone
}

// finish forgets a registration of which nothing is left in etcd.
func (g *Registration) finish(tomb int64) {
	g.mu.Lock()
	g.gone = true
	g.mu.Unlock()
	g.unwatch()
	g.r.forget(g, tomb)
}

// supersede ends a registration whose place was taken.
func (g *Registration) supersede() {
	g.r.log.Warn("an instance was registered again elsewhere", "service", g.service, "id", g.id)
	g.end(ErrSuperseded)
	g.r.drop(g)
	g.finish(0)
}

// abandon takes away what a failed Register may have left behind, or may still.
func (g *Registration) abandon() {
	g.suspect(false)
	g.r.nudge()
}
