package config

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// errLeft says that a loop was left.
var errLeft = errors.New("the loop was left")

// Watch follows a key: the present version first, then every change, of which
// those that the loop is too slow for may be left out, but never the last one. A
// tombstone is a version. While the key is missing or damaged by hand the version
// is the last good one, with [Version.Problem]; a key that was never set is a
// version without value whose Problem is [ErrNotFound].
//
// It survives reconnects, compaction and members without a leader. It ends when
// the loop is left, or with one last pair that has an error: ctx's cause, or
// etcd's if it refuses the key for good.
func (s *Store) Watch(ctx context.Context, key string) iter.Seq2[*Version, error] {
	return func(yield func(*Version, error) bool) {
		f := follower{s: s, key: key, yield: func(v view) bool { return yield(v.version, nil) }}
		if err := f.run(ctx); !errors.Is(err, errLeft) {
			yield(nil, named(key, err))
		}
	}
}

// A view is what stands in the keys of a name at one revision.
type view struct {
	revision int64
	version  *Version
	rollout  *Rollout // nil: there is none, or it is not followed
}

// A follower turns what happens to a key into views.
type follower struct {
	s        *Store
	key      string
	rollouts bool                          // follow them too
	stale    func(stale bool, cause error) // may be nil; from other goroutines
	yield    func(view) bool

	last             *Version // that was yielded
	value            int64    // mod revision of what stands under the key
	candidate, scope *mvccpb.KeyValue
}

// run returns why it ended, never nil.
func (f *follower) run(ctx context.Context) error {
	if err := f.s.check(f.key); err != nil {
		return err
	}
	prefix := f.s.keys.value(f.key) // no other key begins like it
	if f.rollouts {
		prefix = f.s.keys.all(f.key)
	}
	for b, err := range watch.Observe(ctx, f.s.c, prefix, watch.ObserveOptions{Logger: f.s.opts.log, Stale: f.stale}) {
		if err != nil {
			return err
		}
		if err := f.take(ctx, b); err != nil {
			return err
		}
	}
	return errLeft
}

// take makes one view of a batch: what one transaction did to a version and to a
// rollout is seen together.
func (f *follower) take(ctx context.Context, b watch.Batch) error {
	var v *clientv3.Event // of the version
	if b.Snapshot {
		f.value, f.candidate, f.scope = 0, nil, nil
	}
	for _, ev := range b.Events {
		switch string(ev.Kv.Key) {
		case f.s.keys.value(f.key):
			v, f.value = ev, standing(ev).GetModRevision()
		case f.s.keys.candidate(f.key):
			f.candidate = standing(ev)
		case f.s.keys.scope(f.key):
			f.scope = standing(ev)
		}
	}
	version := f.last
	var err error
	switch {
	case v != nil:
		version, err = f.event(ctx, v)
	case b.Snapshot && version != nil && version.Value != nil:
		version = f.keep(ErrMissing)
	case b.Snapshot:
		version, err = f.first(ctx, nil)
	}
	if err != nil {
		return err
	}
	f.last = version
	if !f.yield(view{revision: b.Revision, version: version, rollout: rolloutOf(f.key, f.candidate, f.scope, f.value)}) {
		return errLeft
	}
	return nil
}

// standing is what stands after an event, nil if nothing does.
func standing(ev *clientv3.Event) *mvccpb.KeyValue {
	if ev.Type == clientv3.EventTypeDelete {
		return nil
	}
	return ev.Kv
}

func (f *follower) event(ctx context.Context, ev *clientv3.Event) (*Version, error) {
	if ev.Type == clientv3.EventTypeDelete {
		return f.keep(ErrMissing), nil
	}
	v, err := versionOf(f.key, ev.Kv)
	switch {
	case err == nil:
		return v, nil
	case f.last == nil:
		return f.first(ctx, ev.Kv)
	default:
		return f.keep(err), nil
	}
}

// keep returns the last version with a problem. A tombstone whose key is deleted
// is no problem.
func (f *follower) keep(problem error) *Version {
	kept := *f.last
	if !kept.Deleted || !errors.Is(problem, ErrMissing) {
		kept.Problem = problem
	}
	return &kept
}

// first returns the version to begin with where nothing, or no version, stands.
func (f *follower) first(ctx context.Context, kv *mvccpb.KeyValue) (*Version, error) {
	v, err := f.s.present(ctx, f.key, kv)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDamaged) {
		return &Version{Key: f.key, Problem: err}, nil
	}
	return v, err
}

// follow runs until ctx ends, or etcd's client is closed: what etcd refuses today
// it may allow tomorrow. It tells refused of every end before that.
func (f *follower) follow(ctx context.Context, refused func(error)) {
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		err := f.run(ctx)
		if ctx.Err() != nil {
			return
		}
		refused(err)
		if lost, ok := errors.AsType[*watch.LostError](err); ok && lost.Reason == watch.Closed {
			return
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}
