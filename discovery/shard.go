package discovery

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/clock"
	"github.com/conclavehq/conclave/internal/engine"
)

// A shard is one lease of a registrar, and its renewals.
type shard struct {
	r    *Registrar
	keys int           // guarded by the registrar's mu
	turn chan struct{} // held by whoever grants
	lost chan struct{} // one token: the lease is gone

	mu sync.Mutex
	id clientv3.LeaseID // 0: none
}

func (h *shard) lease() clientv3.LeaseID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id
}

// grant returns the lease, after it was granted if there is none.
func (h *shard) grant(ctx context.Context) (clientv3.LeaseID, error) {
	if id := h.lease(); id != 0 {
		return id, nil
	}
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if id := h.lease(); id != 0 {
		return id, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	// A grant whose reply is lost leaves a lease without keys, which ends by itself.
	resp, err := h.r.c.Grant(ctx, int64(h.r.s.TTL()/time.Second))
	if err != nil {
		return 0, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.id = resp.ID
	return h.id, nil
}

// answering bounds one request to etcd, which itself gives up after 7 s.
const answering = 8 * time.Second

// gone takes note that a lease is not there any more, whoever found it out.
func (h *shard) gone(id clientv3.LeaseID) {
	h.mu.Lock()
	if h.id == id {
		h.id = 0
	}
	h.mu.Unlock()
	select {
	case h.lost <- struct{}{}:
	default:
	}
}

// run renews the lease until the registrar ends, and grants the next one when it
// is gone.
func (h *shard) run() {
	r := h.r
	timer := time.NewTimer(h.interval())
	defer timer.Stop()
	var failures pause
	for {
		select {
		case <-r.ctx.Done():
			return
		case <-h.lost:
		case <-timer.C:
		}
		err := h.renew()
		switch {
		case err == nil:
			failures = 0
			timer.Reset(h.interval())
		case r.ctx.Err() != nil:
			return
		default:
			r.log.Debug("renewal failed", "lease", int64(h.lease()), "error", err)
			reconnect(r.c)
			timer.Reset(failures.next())
		}
	}
}

// interval is a third of the TTL less up to a tenth of it, so that the
// processes of a restarted fleet do not renew in step.
func (h *shard) interval() time.Duration {
	third := h.r.s.TTL() / 3
	return third - rand.N(third/10)
}

// renew renews the lease once. If it is gone it grants another one, and has all
// that stood on it put again.
func (h *shard) renew() error {
	r, id := h.r, h.lease()
	if id != 0 {
		ctx, cancel := context.WithTimeout(r.ctx, max(r.s.TTL()/3, 2*time.Second))
		defer cancel()
		_, err := engine.Renew(ctx, r.c, id)
		if !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			return err
		}
		r.log.Warn("a lease of the registrar is gone; what stood on it is registered again", "lease", int64(id))
		h.gone(id)
	}
	if !h.needed() {
		return nil
	}
	if _, err := h.grant(r.ctx); err != nil {
		return err
	}
	r.mu.Lock()
	for g := range r.regs {
		if g.shard == h {
			g.suspect(false)
		}
	}
	r.mu.Unlock()
	r.nudge()
	return nil
}

func (h *shard) needed() bool {
	h.r.mu.Lock()
	defer h.r.mu.Unlock()
	return h.keys > 0
}

// revoke ends the lease, after the registrar.
func (h *shard) revoke(ctx context.Context) error {
	id := h.lease()
	if id == 0 {
		return nil
	}
	if _, err := h.r.c.Revoke(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return err
	}
	return nil
}

// compare compares what stands on the lease with what is wanted there: the first
// line against keys that were deleted unseen, and the last one against requests
// that arrived later than anybody could expect.
func (h *shard) compare(ctx context.Context) error {
	r, id := h.r, h.lease()
	if id == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	resp, err := r.c.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
	if err != nil || resp.TTL <= 0 {
		return err // the next renewal finds out too
	}
	standing := make(map[string]bool, len(resp.Keys))
	for _, k := range resp.Keys {
		standing[string(k)] = true
	}
	r.mu.Lock()
	for g := range r.regs {
		if g.shard != h { // whose keys are not here, or sweep spares them
			continue
		}
		g.compare(standing)
		delete(standing, g.place.key)
		delete(standing, g.twin())
		delete(standing, g.define)
	}
	r.mu.Unlock()
	r.nudge()
	for key := range standing {
		if err := h.sweep(ctx, key, id); err != nil {
			return err
		}
	}
	return nil
}

// compare looks for the registration's keys among those on its lease.
func (g *Registration) compare(standing map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.rec.Checks) > 0 && !standing[g.define] {
		g.doubt, g.bare = true, true
	}
	if g.twin() != "" && g.state.Usable() && !standing[g.twin()] {
		g.doubt, g.bare = true, true
	}
	if !standing[g.place.key] {
		g.doubt, g.blind = true, true
	}
}

// sweep deletes a key that is on the lease and that nobody here wants.
func (h *shard) sweep(ctx context.Context, key string, id clientv3.LeaseID) error {
	r := h.r
	ours := strings.HasPrefix(key, r.opts.naming) && r.opts.naming != "" || strings.HasPrefix(key, checkPrefix(r.s.Namespace())+defined)
	if _, _, ok := parseKey(key); !ok && !ours {
		return nil
	}
	resp, err := r.c.Get(ctx, key)
	if err != nil || len(resp.Kvs) == 0 || resp.Kvs[0].Lease != int64(id) || r.wants(key) {
		return err
	}
	r.log.Warn("a request that arrived late had registered an instance; it is taken away", "key", key)
	_, err = r.c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", resp.Kvs[0].ModRevision)).Then(clientv3.OpDelete(key)).Commit()
	return err
}

// wants reports whether the key is somebody's by now.
func (r *Registrar) wants(key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for g := range r.regs {
		if g.place.key == key || g.twin() == key || g.define == key {
			return true
		}
	}
	return false
}

// A grave is the lease of farewells: nobody renews it.
type grave struct {
	r  *Registrar
	mu sync.Mutex

	id    clientv3.LeaseID
	since clock.Stamp
}

// lease returns a lease that lives for at least half a TTL more. 0 says that
// etcd takes no leases; then a farewell is a deletion.
func (v *grave) lease(ctx context.Context) (clientv3.LeaseID, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	ttl := v.r.s.TTL()
	if v.id != 0 && clock.Since(v.since) < ttl/2 {
		return v.id, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answering)
	defer cancel()
	now := clock.Now()
	resp, err := v.r.c.Grant(ctx, int64(ttl/time.Second))
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	v.id, v.since = resp.ID, now
	return v.id, nil
}

// forget is called when etcd does not know the lease.
func (v *grave) forget(id clientv3.LeaseID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.id == id {
		v.id = 0
	}
}
