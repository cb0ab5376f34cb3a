package discovery

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// revisions reads the store's revision, once for all who ask at the same time.
type revisions struct {
	c *clientv3.Client

	mu   sync.Mutex
	next *reading // the one that has not been sent yet
	busy bool     // one is under way
}

// A reading is one request. Whoever joins it has asked before it was sent, so
// that its answer is no older than the question.
type reading struct {
	done chan struct{}
	rev  int64
	err  error
}

// now returns the revision of the store at a moment after the call.
func (v *revisions) now(ctx context.Context) (int64, error) {
	v.mu.Lock()
	r := v.next
	if r == nil {
		r = &reading{done: make(chan struct{})}
		v.next = r
		if !v.busy {
			v.busy = true
			go v.read() // ends by itself: each request is bounded
		}
	}
	v.mu.Unlock()
	select {
	case <-r.done:
		return r.rev, r.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// read sends one request after the other, as long as somebody waits.
func (v *revisions) read() {
	for {
		v.mu.Lock()
		r := v.next
		v.next = nil
		v.busy = r != nil
		v.mu.Unlock()
		if r == nil {
			return
		}
		r.rev, r.err = v.ask()
		close(r.done)
	}
}

func (v *revisions) ask() (int64, error) {
	ctx, cancel := context.WithTimeout(v.c.Ctx(), answering)
	defer cancel()
	// A key within the recipe's own, which need not be there.
	resp, err := v.c.Get(ctx, keyspace.RecipePrefix("default", recipe), clientv3.WithCountOnly())
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}
