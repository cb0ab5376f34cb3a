package waitqueue

import (
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// homeSegment stands where a name would. No name is escaped to it.
const homeSegment = "_home/"

// A home is the key that says at which host a borrowed session acquires. Every
// request that may take a name or enter a line carries the revision of it, and a
// host that is new to the session writes it with its first acquisition. What an
// earlier host sent, and etcd applies later than it died, therefore finds
// another revision and does nothing: its void records can never be written.
type home struct {
	key   string
	lease clientv3.LeaseID

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
	return &home{key: keyspace.RecipePrefix(namespace, recipe) + homeSegment + fmt.Sprintf("%016x", uint64(e.Lease())), lease: e.Lease()}
}

// An arrival is what one request of an acquisition says about the home.
type arrival struct {
	rev  int64 // it holds while this is the key's revision
	move bool  // and then writes it
}

func (h *home) arrival() arrival {
	h.mu.Lock()
	defer h.mu.Unlock()
	return arrival{rev: h.rev, move: !h.mine}
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

// wrote notes that a request moved the home here.
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

// arriving makes t a request that may be applied only while the session's home
// is where this host believes it to be. Its else branch also reads what the
// lease owns and waits for.
func (a *acquisition) arriving(t commit.Txn) commit.Txn {
	h := a.q.home
	if h == nil && !a.req.OnePerLease {
		return t
	}
	t.Else = append(t.Else, a.readOwn()...)
	if h == nil {
		return t
	}
	a.came = h.arrival()
	t.If = append(t.If, unmodified(h.key, a.came.rev))
	if a.came.move {
		t.Then = append(t.Then, h.put())
		t.Scope = append([]string{h.key}, t.Scope...) // two requests must not write it in one batch
	}
	return t
}

// isHome tells whether a brief request may do, which cannot move the home.
func (a *acquisition) isHome() bool {
	h := a.q.home
	if h == nil {
		return true
	}
	a.came = h.arrival()
	return !a.came.move
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
	if a.q.home != nil && a.came.move {
		a.q.home.wrote(r.Revision)
	}
}
