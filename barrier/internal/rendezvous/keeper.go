package rendezvous

import (
	"context"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// late is when owned keys begin to be watched: most ownerships end before.
const late = 250 * time.Millisecond

// A keeper notices that keys of the session were deleted by hand: one late watch
// serves all that the session owns below one prefix.
type keeper struct {
	p      *place
	prefix string

	mu    sync.Mutex
	kept  map[*Owned]struct{}
	timer *time.Timer // until the watch opens
	w     *watch.Watch
	shut  bool
}

// sameSession begins the keys of the session that wrote a key, beside it.
func sameSession(key string) string {
	id := idOf([]byte(key))
	lease, _, _ := strings.Cut(id, "-")
	return key[:len(key)-len(id)] + lease + "-"
}

// keep looks after an ownership.
func (p *place) keep(o *Owned) {
	prefix := sameSession(o.key)
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.keepers[prefix]
	if k == nil {
		k = &keeper{p: p, prefix: prefix, kept: make(map[*Owned]struct{})}
		p.keepers[prefix] = k
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept[o] = struct{}{}
	if k.timer == nil && k.w == nil && !k.shut {
		k.timer = time.AfterFunc(late, k.look)
	}
}

// unkeep stops that; the watch ends with the last one.
func (p *place) unkeep(o *Owned) {
	prefix := sameSession(o.key)
	p.mu.Lock()
	defer p.mu.Unlock()
	k := p.keepers[prefix]
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.kept, o)
	if len(k.kept) == 0 {
		k.shut = true
		k.stop()
		delete(p.keepers, prefix)
	}
}

// stop is called with the lock held.
func (k *keeper) stop() {
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
	if k.w != nil {
		k.w.Stop()
		k.w = nil
	}
}

func (k *keeper) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shut = true
	k.stop()
}

// look opens the watch, and then reads what stands.
func (k *keeper) look() {
	e := k.p.h.e
	if !e.Enter() {
		return
	}
	defer e.Leave()
	ctx, cancel := context.WithTimeout(e.Context(), e.TTL()/3)
	defer cancel()
	if err := k.watch(ctx); err != nil {
		e.Log().Debug("watch what is owned", "error", err)
		k.again()
	}
}

// again tries once more a while later.
func (k *keeper) again() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stop()
	if len(k.kept) > 0 && !k.shut {
		k.timer = time.AfterFunc(late, k.look)
	}
}

func (k *keeper) watch(ctx context.Context) error {
	e := k.p.h.e
	w, err := watch.Key(ctx, e.Client(), k.prefix, watch.Options{
		Prefix: true, NoPut: true, Streams: e.Streams(), Lost: func(error) { k.again() },
		Event: func(ev *clientv3.Event) {
			for _, o := range k.all() {
				if o.key == string(ev.Kv.Key) && o.rev < ev.Kv.ModRevision {
					k.deleted(o)
				}
			}
		},
	})
	if err != nil {
		return err
	}
	k.mu.Lock()
	if len(k.kept) == 0 || k.shut || k.w != nil {
		k.mu.Unlock()
		w.Stop()
		return nil
	}
	k.timer, k.w = nil, w
	k.mu.Unlock()
	s := below(k.prefix)
	resp, err := e.Client().Get(ctx, s.from, clientv3.WithRange(s.end), clientv3.WithKeysOnly())
	if err != nil {
		return err
	}
	stands := make(map[string]int64, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		stands[string(kv.Key)] = kv.ModRevision
	}
	for _, o := range k.all() {
		if o.rev <= resp.Header.Revision && stands[o.key] != o.rev {
			k.deleted(o)
		}
	}
	return nil
}

func (k *keeper) all() []*Owned {
	k.mu.Lock()
	defer k.mu.Unlock()
	all := make([]*Owned, 0, len(k.kept))
	for o := range k.kept {
		all = append(all, o)
	}
	return all
}

// deleted ends an ownership whose key is gone, unless the lease went: then the
// session ends it. Not in the watch's goroutine, which must not wait for etcd.
func (k *keeper) deleted(o *Owned) {
	e := k.p.h.e
	if !e.Enter() {
		return
	}
	defer e.Leave()
	e.Go(func(ctx context.Context) {
		if !e.LeaseGone(ctx) {
			o.gone()
		}
	})
}
