// Package engine is what the recipes of one session share: its committer, its
// watches, its leases' identity, and the goroutines that finish in the
// background what a caller no longer waits for. Sessions that a host borrows
// from its callers share committer and streams among each other.
package engine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/watch"
)

// Config sets up an Engine.
type Config struct {
	Client *clientv3.Client
	Lease  clientv3.LeaseID
	TTL    time.Duration
	Log    *slog.Logger
	// Session ends with the session. Its Err does not compare the clock.
	Session context.Context
	// Gone is called when etcd says that the lease is gone. It must not block.
	Gone func()
	// Shared is set when the lease is somebody else's, who keeps it alive.
	Shared *Shared
}

// Shared is what engines on the leases of many callers have in common. Whoever
// makes it closes the committer, after or while the engines close.
type Shared struct {
	Committer *commit.Committer
	Streams   watch.Streams
}

// An Engine serves the recipes of one session. It is safe for concurrent use.
type Engine struct {
	*commit.Committer
	client *clientv3.Client
	lease  clientv3.LeaseID
	ttl    time.Duration
	log    *slog.Logger
	gone   func()
	sess   context.Context
	common *Shared // nil for an engine that has all to itself
	stream *watch.Streams
	prefix string // of acquisition ids: "<lease>-<nonce>"
	count  atomic.Uint64

	ctx  context.Context // of watches and background work
	stop context.CancelFunc

	mu      sync.Mutex
	closing bool          // no new work from outside
	active  int           // calls and goroutines that Close waits for
	idle    chan struct{} // closed when none is active, while closing
	shared  map[any]any
	delays  delays

	closeShared sync.Once
}

// New returns an engine. Close ends it.
func New(cfg Config) *Engine {
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails since Go 1.24
	e := &Engine{
		client: cfg.Client,
		lease:  cfg.Lease,
		ttl:    cfg.TTL,
		log:    cfg.Log,
		gone:   cfg.Gone,
		sess:   cfg.Session,
		prefix: LeasePrefix(cfg.Lease) + hex.EncodeToString(nonce[:]),
	}
	if e.common = cfg.Shared; e.common != nil {
		e.Committer, e.stream = e.common.Committer, &e.common.Streams
	} else {
		e.Committer = commit.New(commit.Config{KV: cfg.Client, Timeout: min(5*time.Second, cfg.TTL/2)})
		e.stream = new(watch.Streams)
	}
	e.ctx, e.stop = context.WithCancel(clientv3.WithRequireLeader(context.Background()))
	return e
}

// Client returns the etcd client.
func (e *Engine) Client() *clientv3.Client { return e.client }

// Lease returns the session's lease.
func (e *Engine) Lease() clientv3.LeaseID { return e.lease }

// TTL returns the lease's time to live.
func (e *Engine) TTL() time.Duration { return e.ttl }

// Borrowed tells that the lease is somebody else's, who keeps it alive.
func (e *Engine) Borrowed() bool { return e.common != nil }

// Streams are those of the engine's watches.
func (e *Engine) Streams() *watch.Streams { return e.stream }

// Log returns the session's logger.
func (e *Engine) Log() *slog.Logger { return e.log }

// LeaseGone asks etcd whether the lease is gone, and then ends the session. An
// error counts as no.
func (e *Engine) LeaseGone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, e.ttl/3)
	defer cancel()
	resp, err := e.client.TimeToLive(ctx, e.lease)
	if err != nil || resp.TTL > 0 {
		return false
	}
	e.gone()
	return true
}

// Session ends with the session, for registering with: who asks whether the
// session still stands asks the session, which compares the clock.
func (e *Engine) Session() context.Context { return e.sess }

// Context ends with the engine. It requires a leader, and all watches of the
// engine derive from it, so that they share one stream.
func (e *Engine) Context() context.Context { return e.ctx }

// LeasePrefix begins every id of an acquisition that is on the lease, whichever
// engine made it.
func LeasePrefix(id clientv3.LeaseID) string { return fmt.Sprintf("%016x-", uint64(id)) }

// IDPrefix begins every id that NewID returns and no id of any other engine,
// also of a later one on the same lease.
func (e *Engine) IDPrefix() string { return e.prefix }

// NewID returns an id that no acquisition ever had.
func (e *Engine) NewID() string { return e.prefix + strconv.FormatUint(e.count.Add(1), 36) }

// Enter counts a call in, which Close then waits for; it must be followed by
// Leave. It reports false, and counts nothing, once Close has begun.
func (e *Engine) Enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closing {
		return false
	}
	e.active++
	return true
}

// Leave counts out what Enter counted in.
func (e *Engine) Leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.active--
	if e.closing && e.active == 0 {
		close(e.idle)
	}
}

// Go runs f in a goroutine that Close waits for. The caller is itself counted
// in, by Enter or Go. The ctx ends when Close stops waiting.
func (e *Engine) Go(f func(ctx context.Context)) {
	e.mu.Lock()
	e.active++
	e.mu.Unlock()
	go func() {
		defer e.Leave()
		f(e.ctx)
	}()
}

// Shared returns the value that the recipes of this session share under key,
// made by the first who asks. If it has a method Close(), the engine's Close
// calls it after all work has ended.
func (e *Engine) Shared(key any, first func() any) any {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, ok := e.shared[key]
	if !ok {
		if e.shared == nil {
			e.shared = make(map[any]any)
		}
		v = first()
		e.shared[key] = v
	}
	return v
}

// Close lets calls, background work and what was submitted end until ctx ends,
// then cuts them short. It returns when all have ended; a second Close also. A
// request to a shared committer is not cut short: it ends with its own timeout.
func (e *Engine) Close(ctx context.Context) {
	e.mu.Lock()
	if !e.closing {
		e.closing = true
		e.idle = make(chan struct{})
		if e.active == 0 {
			close(e.idle)
		}
	}
	e.mu.Unlock()
	select {
	case <-e.idle:
	case <-ctx.Done():
	}
	if e.common == nil {
		e.Committer.Close(ctx)
	}
	e.stop()
	<-e.idle
	e.closeShared.Do(func() {
		e.mu.Lock()
		shared := e.shared
		e.shared = nil
		e.mu.Unlock()
		for _, v := range shared { // not under the lock: they have locks of their own
			if c, ok := v.(interface{ Close() }); ok {
				c.Close()
			}
		}
	})
}
