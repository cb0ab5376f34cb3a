package config

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// instance is a program that takes part in rollouts.
type instance struct {
	session *core.Session
	id      string
	labels  map[string]string
}

// leastEvery is the shortest time between two checks of health.
const leastEvery = 10 * time.Millisecond

func (i *instance) check(o options) error {
	switch {
	case i == nil && o.health != nil:
		return invalid("health: is checked of an instance, see WithInstance")
	case i == nil:
		return nil
	case i.session == nil:
		return invalid("session: is nil")
	case o.health != nil && o.every < leastEvery:
		return invalid("health: every %v is less than %v", o.every, leastEvery)
	case o.namespace != i.session.Namespace():
		return invalid("namespace: is %q, and the session's is %q", o.namespace, i.session.Namespace())
	}
	if err := keyspace.CheckNamespace("instance", i.id); err != nil {
		return invalid("%w", err)
	}
	return checkLabels(i.labels)
}

// A trial is the value of a rollout in force at this instance.
type trial struct {
	revision int64
	end      context.CancelFunc
}

// try returns the snapshot of a rollout's value if this instance has to try it. mu
// is held.
func (v *Variable[T]) try(r *Rollout) *Snapshot[T] {
	i := v.store.opts.instance
	if i == nil || !r.running() || r.Candidate.Revision == v.declined || !r.Scope.has(r.id, i.id, i.labels) {
		v.endTrial()
		return nil
	}
	if v.trying != nil && v.trying.revision == r.Candidate.Revision {
		snap := *v.state.Load().Snapshot // only its scope has changed
		snap.Stale = false
		return &snap
	}
	v.endTrial()
	value, err := v.dec.value(r.Candidate)
	if err != nil {
		v.refuse(r.Candidate.Revision, err)
		return nil
	}
	snap := of(r.Candidate, value)
	snap.Candidate = true
	ctx, end := context.WithCancel(v.ctx)
	v.trying = &trial{revision: snap.Revision, end: end}
	if v.store.opts.health != nil {
		v.work.Go(func() { v.examine(ctx, snap.Revision) })
	}
	return snap
}

func (v *Variable[T]) endTrial() {
	if v.trying != nil {
		v.trying.end()
		v.trying = nil
	}
}

// refuse ends a rollout for all: here at once, elsewhere as soon as etcd knows.
// mu is held.
func (v *Variable[T]) refuse(revision int64, why error) {
	v.declined = revision
	v.store.opts.log.Warn("config: the value of a rollout is refused", "key", v.key, "revision", revision, "err", why)
	v.work.Go(func() {
		v.insist(func(ctx context.Context) error {
			return v.store.Refuse(ctx, v.key, revision, v.store.opts.instance.id, why.Error())
		})
	})
}

// examine checks the instance's health while a rollout's value is in force.
func (v *Variable[T]) examine(ctx context.Context, revision int64) {
	tick := time.NewTicker(v.store.opts.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		bounded, cancel := context.WithTimeout(ctx, v.store.opts.every)
		err := contain(func() error { return v.store.opts.health(bounded) })
		cancel()
		if err == nil || ctx.Err() != nil {
			continue
		}
		v.mu.Lock()
		if v.trying != nil && v.trying.revision == revision {
			v.endTrial()
			v.refuse(revision, fmt.Errorf("unhealthy: %w", err))
			back := *v.stable
			v.publish(&back)
		}
		v.mu.Unlock()
		return
	}
}

// Refuse ends the rollout whose value is in force here, because the program does
// not do well with it: every instance goes back to the version that all others
// have. It does nothing if the value in force is not that of a rollout. The
// refusal is sent in the background.
func (v *Variable[T]) Refuse(why error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.trying == nil {
		return
	}
	revision := v.trying.revision
	v.endTrial()
	v.refuse(revision, why)
	back := *v.stable
	v.publish(&back)
}

// insist repeats a write until it succeeds or the Variable is closed.
func (v *Variable[T]) insist(write func(ctx context.Context) error) {
	for pause := 50 * time.Millisecond; v.ctx.Err() == nil; pause = min(2*pause, 5*time.Second) {
		ctx, cancel := context.WithTimeout(v.ctx, attempt)
		err := write(ctx)
		cancel()
		if err == nil || errors.Is(err, core.ErrSessionExpired) {
			return
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-v.ctx.Done():
			timer.Stop()
			return
		}
	}
}

// An Instance is what a program said of itself: see [WithInstance].
type Instance struct {
	ID               string            `json:"id"`                         // tells it from all others
	Labels           map[string]string `json:"labels,omitempty"`           // what a Scope chooses by
	Revision         int64             `json:"revision"`                   // of the value that it runs; 0: its default
	Candidate        bool              `json:"candidate,omitempty"`        // that is a rollout's
	Rejected         string            `json:"rejected,omitempty"`         // why it does not run what was published last
	RejectedRevision int64             `json:"rejectedRevision,omitempty"` // the revision of that
	Time             time.Time         `json:"time"`                       // when it said so, by its own clock
}

// reportDelay spreads what many instances say after one change.
const reportDelay = 200 * time.Millisecond

// report says in etcd what this instance runs, until the Variable is closed, and
// then takes it away.
func (v *Variable[T]) report() {
	i := v.store.opts.instance
	key := v.store.keys.instance(v.key, i.id)
	var said []byte
	for {
		st := v.state.Load()
		now := Instance{ID: i.id, Labels: i.labels, Revision: st.Revision, Candidate: st.Candidate, RejectedRevision: st.RejectedRevision}
		if st.Rejected != nil {
			now.Rejected = cutTo(st.Rejected.Error(), MaxMessage)
		}
		if data, err := json.Marshal(now); err == nil && !bytes.Equal(data, said) {
			said = data
			now.Time = time.Now().UTC().Truncate(time.Millisecond)
			v.insist(func(ctx context.Context) error { return v.say(ctx, key, now) })
		}
		select {
		case <-st.changed:
		case <-v.ctx.Done():
			v.unsay(key)
			return
		}
		timer := time.NewTimer(rand.N(reportDelay))
		select {
		case <-timer.C:
		case <-v.ctx.Done():
			timer.Stop()
		}
	}
}

func (v *Variable[T]) say(ctx context.Context, key string, now Instance) error {
	s := v.store.opts.instance.session
	if err := s.Context().Err(); err != nil {
		return core.ErrSessionExpired
	}
	data, err := json.Marshal(now)
	if err != nil {
		return err
	}
	_, err = v.store.c.Put(ctx, key, string(data), clientv3.WithLease(s.Lease()))
	return err
}

// unsay removes what was said. If etcd is away it ends with the session.
func (v *Variable[T]) unsay(key string) {
	if v.store.opts.instance.session.Context().Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(v.ctx), time.Second)
	defer cancel()
	if _, err := v.store.c.Delete(ctx, key); err != nil {
		v.store.opts.log.Debug("config: what this instance runs is said until its session ends", "key", v.key, "err", err)
	}
}

// Instances reads what the instances say that they run of a key, ordered by their
// ids' spelling in etcd.
func (s *Store) Instances(ctx context.Context, key string) ([]Instance, error) {
	if err := s.check(key); err != nil {
		return nil, err
	}
	from := s.keys.running(key)
	resp, err := s.c.Get(ctx, from, clientv3.WithRange(keyspace.End(from)))
	if err != nil {
		return nil, named(key, err)
	}
	var all []Instance
	for _, kv := range resp.Kvs {
		var i Instance
		id, err := keyspace.Unescape(string(kv.Key)[len(from):])
		if err != nil || json.Unmarshal(kv.Value, &i) != nil || i.ID != id {
			continue // somebody wrote it by hand
		}
		all = append(all, i)
	}
	return all, nil
}
