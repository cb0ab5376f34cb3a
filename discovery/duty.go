package discovery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
)

// shards is into how many parts the checks of a namespace are divided, each of
// which has one owner. It is the same for ever: it is a part of the protocol.
const shards = 16

func shardOf(service, id string) int { return int(hash(service, id) % shards) }

func (w *ward) ownerKey(shard int) string { return fmt.Sprintf("%s%s%02d", w.prefix, owners, shard) }

// cutKind parts a key below the prefix of checks.
func cutKind(rest string) (kind, name string) {
	for _, kind := range []string{defined, owners, checkers, namespaces} {
		if name, ok := strings.CutPrefix(rest, kind); ok {
			return kind, name
		}
	}
	return "", ""
}

// read takes the definition's text in.
func (p *patient) read(value []byte) bool {
	return json.Unmarshal(value, &p.definition) == nil && p.V >= 1 && p.Reg != "" && len(p.Checks) > 0 && len(p.Checks) <= MaxChecks
}

// keep works under one session after the other, until ctx ends.
func (w *ward) keep(ctx context.Context) {
	for ctx.Err() == nil {
		err := core.Keep(ctx, w.c, w.serve, core.WithTTL(checkTTL), core.WithNamespace(w.namespace), core.WithLogger(w.log))
		var p pause
		if ctx.Err() == nil {
			w.log.Warn("checks stand still; it will be tried again", "namespace", w.namespace, "error", err)
			_ = p.wait(ctx) // its end is seen above
		}
	}
}

// A shift is the work under one session.
type shift struct {
	*ward
	s    *core.Session
	self string
	mine map[int]*charge
}

// A charge is a shard that is owned.
type charge struct {
	*shift
	key  string
	rev  int64
	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
	care map[string]*care // by the definition's key
}

// serve owns what falls to this process, until ctx ends.
func (w *ward) serve(ctx context.Context, s *core.Session) error {
	h := &shift{ward: w, s: s, self: strconv.FormatUint(uint64(s.Lease()), 16), mine: make(map[int]*charge)} //nolint:gosec // its bits
	defer h.leave()
	for failures := pause(0); ctx.Err() == nil; {
		if err := h.adjust(ctx); err != nil {
			w.log.Debug("checks could not be taken on or let go", "namespace", w.namespace, "error", err)
			if failures.wait(ctx) != nil {
				break
			}
			continue
		}
		failures = 0
		select {
		case <-w.wake:
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

func (h *shift) leave() {
	for shard := range h.mine {
		h.drop(shard)
	}
}

// A plan is what has to be done for the shards.
type plan struct {
	join        bool // say that this process is there
	take, leave []int
}

// adjust makes of what is known what is to be.
func (h *shift) adjust(ctx context.Context) error {
	p := h.plan(ctx)
	var err error
	if p.join {
		_, err = h.s.Client().Put(ctx, h.prefix+checkers+h.self, `{"v":1}`, clientv3.WithLease(h.s.Lease()))
	}
	for _, shard := range p.take {
		key := h.ownerKey(shard)
		// If somebody was first, or the reply is lost, the watch says so.
		_, e := h.s.Engine().Do(ctx, commit.Txn{Scope: []string{key}, Likely: true,
			If:   []clientv3.Cmp{clientv3.Compare(clientv3.Version(key), "=", 0)},
			Then: []clientv3.Op{clientv3.OpPut(key, text(ownerRecord{1, h.s.Owner()}), clientv3.WithLease(h.s.Lease()))}})
		err = errors.Join(err, e)
	}
	for _, shard := range p.leave {
		err = errors.Join(err, h.release(ctx, shard))
	}
	return err
}

// An ownerRecord is the value of an owner's key, for those who look.
type ownerRecord struct {
	V     int    `json:"v"`
	Owner string `json:"owner"`
}

// plan compares what is known with what is done.
func (h *shift) plan(ctx context.Context) plan {
	h.ward.mu.Lock()
	defer h.ward.mu.Unlock()
	p := plan{join: !h.hosts[h.self]}
	if p.join { // the others do not reckon with it yet
		h.hosts[h.self] = true
		defer delete(h.hosts, h.self)
	}
	for shard := range shards {
		o, owned := h.owners[h.ownerKey(shard)]
		ours := owned && o.lease == h.s.Lease()
		if c := h.mine[shard]; c != nil && (!ours || c.rev != o.rev) {
			h.drop(shard)
		}
		wanted := len(h.patients[shard]) > 0 && h.falls(shard) == h.self
		switch {
		case ours && !wanted:
			p.leave = append(p.leave, shard)
		case ours:
			h.look(ctx, shard, o.rev)
		case !owned && wanted && !p.join:
			p.take = append(p.take, shard)
		}
	}
	return p
}

// falls returns to whom a shard falls: by rendezvous, so that it moves only when
// that host comes or goes.
func (h *shift) falls(shard int) string {
	var best string
	var most uint64
	for host := range h.hosts {
		if n := hash(host, strconv.Itoa(shard)); best == "" || n > most || n == most && host < best {
			best, most = host, n
		}
	}
	return best
}

// release ends the work in a shard, and then lets others own it.
func (h *shift) release(ctx context.Context, shard int) error {
	h.drop(shard)
	key := h.ownerKey(shard)
	h.ward.mu.Lock()
	o := h.owners[key]
	h.ward.mu.Unlock()
	_, err := h.s.Engine().Do(ctx, commit.Txn{Scope: []string{key}, Likely: true,
		If:   []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", o.rev)},
		Then: []clientv3.Op{clientv3.OpDelete(key)}})
	return err
}

// drop ends the work in a shard.
func (h *shift) drop(shard int) {
	c := h.mine[shard]
	if c == nil {
		return
	}
	delete(h.mine, shard)
	c.stop()
	c.work.Wait()
}

// look sees to it that every patient of an own shard is cared for, and no other.
func (h *shift) look(ctx context.Context, shard int, rev int64) {
	c := h.mine[shard]
	if c == nil {
		c = &charge{shift: h, key: h.ownerKey(shard), rev: rev, care: make(map[string]*care)}
		c.ctx, c.stop = context.WithCancel(ctx)
		h.mine[shard] = c
	}
	for key, p := range h.patients[shard] {
		if it := c.care[key]; it != nil {
			it.tell(p)
			continue
		}
		c.care[key] = c.begin(key, p)
	}
	for key, it := range c.care {
		if _, here := h.patients[shard][key]; !here {
			it.stop()
			delete(c.care, key)
		}
	}
}
