package session

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/watch"
)

// retryWatch is how long the view waits after etcd refused it for good, as it
// does while it asks for a login that the host does not have.
const retryWatch = 2 * time.Second

// A view is what a host knows of all sessions.
type view struct {
	client *clientv3.Client
	log    *slog.Logger
	// changed is told, in order, of each change that came by the watch: after is
	// nil if the session has ended. Never called with mu held.
	changed func(id uuid.UUID, after *state)

	mu      sync.RWMutex
	known   map[uuid.UUID]*state
	applied int64 // revision up to which the watch has been followed
}

func newView(c *clientv3.Client, log *slog.Logger, changed func(uuid.UUID, *state)) *view {
	return &view{client: c, log: log, changed: changed, known: make(map[uuid.UUID]*state)}
}

func (v *view) find(id uuid.UUID) *state {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.known[id]
}

func (v *view) size() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return len(v.known)
}

// learn takes in a record that was read or written at revision rev. What the
// watch has gone past is left out: it may have been deleted since, and nothing
// would ever remove it.
func (v *view) learn(s *state, rev int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if rev < v.applied {
		return
	}
	if old := v.known[s.id]; old == nil || old.rev < s.rev {
		v.known[s.id] = s
	}
}

// follow keeps the view until ctx ends.
func (v *view) follow(ctx context.Context) {
	streams := new(watch.Streams)
	for ctx.Err() == nil {
		opts := watch.ObserveOptions{Streams: streams, Logger: v.log}
		for b, err := range watch.Observe(ctx, v.client, keyspace.SessionsPrefix(), opts) {
			if err != nil {
				if ctx.Err() == nil {
					v.log.Warn("the view of sessions is interrupted", "error", err)
				}
				break
			}
			v.apply(b)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryWatch):
		}
	}
}

func (v *view) apply(b watch.Batch) {
	type change struct {
		id    uuid.UUID
		after *state
	}
	var changes []change
	present := make(map[uuid.UUID]bool)
	v.mu.Lock()
	for _, ev := range b.Events {
		if ev.Type == clientv3.EventTypeDelete {
			if id, ok := idOf(ev.Kv); ok {
				delete(v.known, id)
				changes = append(changes, change{id, nil})
			}
			continue
		}
		s, err := parse(ev.Kv)
		if err != nil {
			v.log.Warn("not a session", "key", string(ev.Kv.Key), "error", err)
			continue
		}
		if old := v.known[s.id]; old == nil || old.rev < s.rev {
			v.known[s.id] = s
		}
		present[s.id] = true
		changes = append(changes, change{s.id, s})
	}
	for id, s := range v.known {
		if from, gap := gapOf(b); !gap {
			break
		} else if s.rev > from && s.rev <= b.Revision && !present[id] {
			delete(v.known, id)
			changes = append(changes, change{id, nil})
		}
	}
	v.applied = b.Revision
	v.mu.Unlock()
	for _, c := range changes {
		v.changed(c.id, c.after)
	}
}

// gapOf returns the revision after which the watch missed something. A session
// that came and went in the gap has no event, though a call may have taught the
// view of it.
func gapOf(b watch.Batch) (from int64, gap bool) {
	switch {
	case b.Snapshot:
		return 0, true
	case b.Resync != nil:
		return b.Resync.From, true
	default:
		return 0, false
	}
}

func idOf(kv *mvccpb.KeyValue) (uuid.UUID, bool) {
	_, name, err := keyspace.ParseSession(string(kv.Key))
	if err != nil {
		return uuid.UUID{}, false
	}
	id, err := parseID(name)
	return id, err == nil
}
