package config

import (
	"context"
	"errors"
	"iter"
	"math/rand/v2"
	"time"

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
		f := follower{s: s, key: key, yield: func(v *Version) bool { return yield(v, nil) }}
		if err := f.run(ctx); !errors.Is(err, errLeft) {
			yield(nil, named(key, err))
		}
	}
}

// A follower turns what happens to a key's present version into versions.
type follower struct {
	s     *Store
	key   string
	stale func(stale bool, cause error) // may be nil; from other goroutines
	yield func(*Version) bool
	last  *Version // that was yielded
}

// run returns why it ended, never nil.
func (f *follower) run(ctx context.Context) error {
	if err := f.s.check(f.key); err != nil {
		return err
	}
	key := f.s.keys.value(f.key)
	// The prefix holds one key: no other begins like it.
	for b, err := range watch.Observe(ctx, f.s.c, key, watch.ObserveOptions{Logger: f.s.opts.log, Stale: f.stale}) {
		if err != nil {
			return err
		}
		if err := f.take(ctx, b); err != nil {
			return err
		}
	}
	return errLeft
}

func (f *follower) take(ctx context.Context, b watch.Batch) error {
	var v *Version
	var err error
	switch {
	case len(b.Events) > 0:
		v, err = f.event(ctx, b.Events[len(b.Events)-1])
	case b.Snapshot && f.last != nil && f.last.Value != nil:
		v = f.keep(ErrMissing)
	case b.Snapshot:
		v, err = f.first(ctx, nil)
	default:
		return nil
	}
	if err != nil {
		return err
	}
	f.last = v
	if !f.yield(v) {
		return errLeft
	}
	return nil
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
		return f.first(ctx, ev)
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
func (f *follower) first(ctx context.Context, ev *clientv3.Event) (*Version, error) {
	var v *Version
	var err error
	if ev == nil {
		v, err = f.s.present(ctx, f.key, nil)
	} else {
		v, err = f.s.present(ctx, f.key, ev.Kv)
	}
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
