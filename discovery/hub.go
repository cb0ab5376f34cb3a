package discovery

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/connectivity"

	"github.com/conclavehq/conclave/internal/watch"
)

// hubs are those of the clients that have open resolvers. It is the one variable
// of the package: two parts of a program that know nothing of each other, each
// with a resolver of its own, shall cost etcd one watch. It decides nothing but
// that, and holds nothing once the resolvers are closed.
var hubs registry

// A registry finds the hub of a client.
type registry struct {
	mu   sync.Mutex
	hubs map[*clientv3.Client]*hub
}

// A hub has the feeds that the resolvers of one client share.
type hub struct {
	c       *clientv3.Client
	streams watch.Streams
	stop    context.CancelFunc
	done    chan struct{}

	mu        sync.Mutex
	resolvers map[*Resolver]struct{}
	feeds     map[feedKey]*feed
	refs      map[*feed]int
}

// join returns the hub of the resolver's client, with the resolver in it.
func (g *registry) join(r *Resolver) *hub {
	g.mu.Lock()
	defer g.mu.Unlock()
	h := g.hubs[r.c]
	if h == nil {
		h = &hub{c: r.c, done: make(chan struct{}), resolvers: make(map[*Resolver]struct{}), feeds: make(map[feedKey]*feed), refs: make(map[*feed]int)}
		ctx, stop := context.WithCancel(context.Background())
		h.stop = stop
		go h.reconnect(ctx)
		if g.hubs == nil {
			g.hubs = make(map[*clientv3.Client]*hub)
		}
		g.hubs[r.c] = h
	}
	h.mu.Lock()
	h.resolvers[r] = struct{}{}
	h.mu.Unlock()
	return h
}

// leave takes the resolver out, and ends the hub with its last one.
func (g *registry) leave(r *Resolver, h *hub) {
	g.mu.Lock()
	h.mu.Lock()
	delete(h.resolvers, r)
	last := len(h.resolvers) == 0
	h.mu.Unlock()
	if last {
		delete(g.hubs, r.c)
	}
	g.mu.Unlock()
	if last {
		h.stop()
		<-h.done
	}
}

// reconnect makes the client dial about every half second while it has no
// connection: gRPC itself pauses for up to two minutes.
func (h *hub) reconnect(ctx context.Context) {
	defer close(h.done)
	conn := h.c.ActiveConnection()
	if conn == nil { // in process
		return
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if state := conn.GetState(); state != connectivity.TransientFailure {
			conn.WaitForStateChange(ctx, state)
			continue
		}
		timer.Reset(250*time.Millisecond + rand.N(500*time.Millisecond))
		select {
		case <-ctx.Done():
		case <-timer.C:
			conn.ResetConnectBackoff()
		}
	}
}

// feed returns the feed, made by the first who asks, and counts its user.
func (h *hub) feed(key feedKey, log *slog.Logger) *feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.feeds[key]
	if f == nil {
		f = newFeed(h, key, log)
		h.feeds[key] = f
	}
	h.refs[f]++
	return f
}

// release counts a user out, and ends the feed with the last one.
func (h *hub) release(f *feed) {
	h.mu.Lock()
	h.refs[f]--
	last := h.refs[f] <= 0
	if last {
		delete(h.refs, f)
		if h.feeds[f.feedKey] == f {
			delete(h.feeds, f.feedKey)
		}
	}
	h.mu.Unlock()
	if last {
		f.stop()
		<-f.done
	}
}

// expire takes a feed that nobody uses from all resolvers. The feed ends itself.
func (h *hub) expire(f *feed) {
	h.mu.Lock()
	if h.feeds[f.feedKey] == f {
		delete(h.feeds, f.feedKey)
	}
	delete(h.refs, f)
	resolvers := make([]*Resolver, 0, len(h.resolvers))
	for r := range h.resolvers {
		resolvers = append(resolvers, r)
	}
	h.mu.Unlock()
	for _, r := range resolvers {
		r.forget(f)
	}
}
