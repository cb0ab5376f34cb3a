package discovery

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// settled is how long a registration stands until its key is watched: most that
// end sooner need no watch.
const settled = 250 * time.Millisecond

// keep mends what is broken, until the registrar ends.
func (r *Registrar) keep() {
	look := time.NewTimer(settled)
	defer look.Stop()
	compare := time.NewTimer(r.compareEvery())
	defer compare.Stop()
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-r.wake:
		case <-look.C:
		case <-compare.C:
			r.compare()
			compare.Reset(r.compareEvery())
		}
		look.Reset(r.mend())
	}
}

// compareEvery is about the TTL: what only a comparison finds is rare.
func (r *Registrar) compareEvery() time.Duration {
	ttl := r.s.TTL()
	return ttl - rand.N(ttl/4)
}

func (r *Registrar) compare() {
	r.mu.Lock()
	shards := append([]*shard(nil), r.shards...)
	r.mu.Unlock()
	for _, h := range shards {
		if err := h.compare(r.ctx); err != nil {
			r.log.Debug("comparison with etcd failed", "error", err)
		}
	}
}

// mend looks at what is in doubt, opens the watches that are due, and returns
// how long to wait for the next time.
func (r *Registrar) mend() time.Duration {
	now := time.Now()
	var doubtful, unwatched []*Registration
	next := time.Minute
	r.mu.Lock()
	for g := range r.regs {
		doubt, watch, wait := g.due(now)
		if doubt {
			doubtful = append(doubtful, g)
		}
		if watch {
			unwatched = append(unwatched, g)
		}
		next = min(next, wait)
	}
	r.mu.Unlock()
	failed := forEach(doubtful, func(g *Registration) error { return g.mend(r.ctx) })
	failed = errors.Join(failed, forEach(unwatched, func(g *Registration) error { return g.follow(r.ctx) }))
	if failed != nil && r.ctx.Err() == nil {
		r.log.Debug("not everything is registered", "error", failed)
		reconnect(r.c)
	}
	if failed != nil {
		return firstPause
	}
	return max(next, time.Millisecond)
}

// due tells what a registration needs now, and when to look again.
func (g *Registration) due(now time.Time) (doubt, watch bool, wait time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wait = time.Minute
	if g.gone || (g.since.IsZero() && !g.over) { // its own call is still at it
		return false, false, wait
	}
	if g.doubt {
		if doubt = !now.Before(g.retry); !doubt {
			wait = g.retry.Sub(now)
		}
	}
	if g.watch == nil && !g.over {
		if watch = now.Sub(g.since) >= settled; !watch {
			wait = min(wait, settled-now.Sub(g.since))
		}
	}
	return doubt, watch, wait
}

// mend makes etcd agree with what is wanted.
func (g *Registration) mend(ctx context.Context) error {
	if g.isOver() {
		err := g.takeAway(ctx)
		return g.postponed(err)
	}
	err := g.sync(ctx)
	switch {
	case errors.Is(err, ErrSuperseded):
		g.supersede()
		return nil
	case errors.Is(err, ErrLost): // it was deregistered meanwhile
		return nil
	}
	return g.postponed(err)
}

func (g *Registration) isOver() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.over
}

// postponed notes when to try again after an error.
func (g *Registration) postponed(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		g.doubt = true
		g.retry = time.Now().Add(g.pauses.next())
	}
	return err
}

// follow watches the key, from what stands there on.
func (g *Registration) follow(ctx context.Context) error {
	if err := g.take(ctx); err != nil {
		return err
	}
	from := g.place.rev + 1
	<-g.turn
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	w, err := watch.Key(ctx, g.r.c, g.place.key, watch.Options{Event: g.event, Lost: g.unseen, Revision: from, Streams: &g.r.streams})
	if lost, ok := errors.AsType[*watch.LostError](err); ok && lost.Reason == watch.Compacted {
		// Long after: what stands is read, and the watch begins there.
		w, err = watch.Key(ctx, g.r.c, g.place.key, watch.Options{Event: g.event, Lost: g.unseen, Streams: &g.r.streams})
		g.suspect(true)
	}
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over {
		w.Stop()
		return nil
	}
	g.watch = w
	return nil
}

// event notes that the key changed, if it was somebody else who changed it.
func (g *Registration) event(ev *clientv3.Event) {
	g.mu.Lock()
	g.seen = max(g.seen, ev.Kv.ModRevision)
	g.doubt = true
	g.mu.Unlock()
	g.r.nudge()
}

// unseen is called when the watch was lost: what happened to the key since is
// not known.
func (g *Registration) unseen(error) {
	g.mu.Lock()
	g.watch, g.doubt, g.blind = nil, true, true
	g.mu.Unlock()
	g.r.nudge()
}

func (g *Registration) unwatch() {
	g.mu.Lock()
	w := g.watch
	g.watch = nil
	g.mu.Unlock()
	if w != nil {
		w.Stop()
	}
}
