package waitqueue

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// homeSegment stands where a name would. No name is escaped to it.
const homeSegment = "_home/"

// A home is the key that says at which host a borrowed session acquires. Every
// request that may take a name or enter a line carries the revision with which
// its own host wrote the key, and a host writes it before it acquires for a
// session that another one acquired for. What a host that died has sent, and
// etcd applies late, therefore does nothing once another host has acquired: the
// void records that it would have needed nobody can write.
type home struct {
	key    string
	lease  clientv3.LeaseID
	moving chan struct{} // holds one token: who has it moves the home here

	mu   sync.Mutex
	rev  int64 // of the key as last seen; 0: absent
	mine bool  // written from here
}

// newHome returns the home of a borrowed session's acquisitions, nil for a
// session that is its own.
func newHome(e *engine.Engine, namespace, recipe string) *home {
	if !e.Borrowed() {
		return nil
	}
	key := keyspace.RecipePrefix(namespace, recipe) + homeSegment + strings.TrimSuffix(engine.LeasePrefix(e.Lease()), "-")
	return &home{key: key, lease: e.Lease(), moving: make(chan struct{}, 1)}
}

// An arrival is what one request of an acquisition says about the home.
type arrival struct {
	rev   int64 // it holds while this is the key's revision
	first bool  // there was no key: the request writes it
}

// arrival reports what a request may say, or false if the home has to be moved
// here first.
func (h *home) arrival() (arrival, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return arrival{rev: h.rev, first: h.rev == 0}, h.mine || h.rev == 0
}

func (h *home) put() clientv3.Op {
	return clientv3.OpPut(h.key, `{"v":1}`, clientv3.WithLease(h.lease))
}

// saw takes the key's revision as a refused request read it, and reports whether
// that is why the request was refused.
func (h *home) saw(rev int64, asked arrival) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if rev != h.rev && h.rev <= max(rev, asked.rev) { // not an older answer than what is known
		h.rev, h.mine = rev, false
	}
	return rev != asked.rev
}

// wrote notes that a request wrote the key.
func (h *home) wrote(rev int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if rev >= h.rev {
		h.rev, h.mine = rev, true
	}
}

// isMine tells whether the key with this revision was written from here.
func (h *home) isMine(rev int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mine && h.rev == rev
}

// comeHome moves the home here if it is elsewhere. A late copy of the request
// only makes the next one necessary.
func (q *Queue) comeHome(ctx context.Context) error {
	h := q.home
	if h == nil {
		return nil
	}
	if _, ok := h.arrival(); ok {
		return nil
	}
	select {
	case h.moving <- struct{}{}:
		defer func() { <-h.moving }()
	case <-ctx.Done():
		return waitError(ctx)
	}
	if _, ok := h.arrival(); ok {
		return nil
	}
	r, err := q.settle(ctx, commit.Txn{Scope: []string{h.key}, Then: []clientv3.Op{h.put()}})
	if err == nil {
		h.wrote(r.Revision)
	}
	return err
}

// settle sends a transaction until its outcome is known.
func (q *Queue) settle(ctx context.Context, t commit.Txn) (commit.Result, error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		r, err := q.e.Do(ctx, t)
		if !errors.Is(err, commit.ErrUnknown) {
			return r, err
		}
		if sleep(ctx, pause) != nil {
			return r, err
		}
	}
}

// arriving makes t a request that may be applied only while the session's home
// is here. Unless t is brief, its else branch also reads what the lease owns and
// waits for.
func (a *acquisition) arriving(t commit.Txn, brief bool) commit.Txn {
	h := a.q.home
	if (h != nil || a.req.OnePerLease) && !brief {
		t.Else = append(t.Else, a.readOwn()...)
	}
	if h == nil {
		return t
	}
	a.came, _ = h.arrival()
	t.If = append(t.If, unmodified(h.key, a.came.rev))
	if a.came.first {
		t = a.movingHome(t)
	}
	return t
}

// movingHome makes t write the home. Two requests must not do so in one batch.
func (a *acquisition) movingHome(t commit.Txn) commit.Txn {
	if h := a.q.home; h != nil {
		t.Then = append(t.Then, h.put())
		t.Scope = append([]string{h.key}, t.Scope...)
	}
	return t
}

// isHome tells whether a brief request may do, which does not write the home.
func (a *acquisition) isHome() bool {
	h := a.q.home
	if h == nil {
		return true
	}
	came, ok := h.arrival()
	a.came = came
	return ok && !came.first
}

// staying are the guards of a brief request.
func (a *acquisition) staying() []clientv3.Cmp {
	var cmps []clientv3.Cmp
	if h := a.q.home; h != nil {
		cmps = append(cmps, unmodified(h.key, a.came.rev))
	}
	if a.req.OnePerLease {
		cmps = append(cmps, a.nothingOwn()...)
	}
	return cmps
}

// arrived notes that an arriving request was applied.
func (a *acquisition) arrived(r commit.Result) {
	if a.q.home != nil && a.came.first {
		a.q.home.wrote(r.Revision)
	}
}
