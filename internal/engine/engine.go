// Package engine is what the recipes of one session share: its committer, its
// watches, its leases' identity, and the goroutines that finish in the
// background what a caller no longer waits for.
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
)

// Config sets up an Engine.
type Config struct {
	Client *clientv3.Client
	Lease  clientv3.LeaseID
	TTL    time.Duration
	Log    *slog.Logger
}

// An Engine serves the recipes of one session. It is safe for concurrent use.
type Engine struct {
	*commit.Committer
	client *clientv3.Client
	lease  clientv3.LeaseID
	ttl    time.Duration
	log    *slog.Logger
	prefix string // of acquisition ids: "<lease>-<nonce>"
	count  atomic.Uint64

	ctx  context.Context // of watches and background work
	stop context.CancelFunc

	mu     sync.Mutex
	closed bool
	wg     sync.WaitGroup
	shared map[any]any
	delays delays
}

// New returns an engine. Close ends it.
func New(cfg Config) *Engine {
	var nonce [4]byte
	_, _ = rand.Read(nonce[:]) // never fails since Go 1.24
	e := &Engine{
		Committer: commit.New(commit.Config{KV: cfg.Client, Timeout: min(5*time.Second, cfg.TTL/2)}),
		client:    cfg.Client,
		lease:     cfg.Lease,
		ttl:       cfg.TTL,
		log:       cfg.Log,
		prefix:    fmt.Sprintf("%016x-%s", uint64(cfg.Lease), hex.EncodeToString(nonce[:])),
		shared:    make(map[any]any),
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

// Log returns the session's logger.
func (e *Engine) Log() *slog.Logger { return e.log }

// Context ends with the engine. It requires a leader, and all watches of the
// engine derive from it, so that they share one stream.
func (e *Engine) Context() context.Context { return e.ctx }

// IDPrefix begins every id that NewID returns and no id of any other engine,
// also of a later one on the same lease.
func (e *Engine) IDPrefix() string { return e.prefix }

// NewID returns an id that no acquisition ever had.
func (e *Engine) NewID() string { return e.prefix + strconv.FormatUint(e.count.Add(1), 36) }

// Go runs f in a goroutine that Close waits for. It does nothing after Close.
func (e *Engine) Go(f func(ctx context.Context)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.wg.Go(func() { f(e.ctx) })
	return true
}

// Shared returns the value that the recipes of this session share under key,
// made by the first who asks.
func (e *Engine) Shared(key any, make func() any) any {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, ok := e.shared[key]
	if !ok {
		v = make()
		e.shared[key] = v
	}
	return v
}

// Do sends one transaction and waits for its result. It returns early when ctx
// ends: with an error that is commit.ErrUnknown if the transaction was under
// way, else it was never sent.
func (e *Engine) Do(ctx context.Context, t commit.Txn) (commit.Result, error) {
	type answer struct {
		r   commit.Result
		err error
	}
	answers := make(chan answer, 1)
	ticket := e.Submit(t.Scope, func() commit.Txn { return t }, func(r commit.Result, err error) {
		answers <- answer{r, err}
	})
	select {
	case a := <-answers:
		return a.r, a.err
	case <-ctx.Done():
		if ticket.Withdraw() {
			return commit.Result{}, context.Cause(ctx)
		}
		return commit.Result{}, fmt.Errorf("%w: %w", commit.ErrUnknown, context.Cause(ctx))
	}
}

// Close sends what was submitted until ctx ends, ends the watches, and waits
// for the background work.
func (e *Engine) Close(ctx context.Context) {
	e.Committer.Close(ctx)
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	e.stop()
	e.wg.Wait()
}
