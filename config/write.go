package config

import (
	"context"
	"iter"
	"time"
)

// Set publishes a value, whatever the key has now, and returns its revision. The
// value has to pass the Variable's own check first. When Set returns, Latest shows
// it, or what somebody published after it; only if etcd does not tell this process
// within a second, as it tells all others, Set does not wait for that.
//
// The errors are those of [Store.Publish].
func (v *Variable[T]) Set(ctx context.Context, value T, opts ...PublishOption) (rev int64, err error) {
	c, err := v.Change(value)
	if err != nil {
		return 0, err
	}
	return v.publishAndSee(ctx, c, opts)
}

// seeWithin bounds how long a publication waits to be seen here.
const seeWithin = time.Second

// publishAndSee publishes, and waits until this process has heard of it.
func (v *Variable[T]) publishAndSee(ctx context.Context, c Change, opts []PublishOption) (int64, error) {
	rev, err := v.store.Publish(ctx, []Change{c}, opts...)
	if err != nil {
		return rev, err
	}
	timer := time.NewTimer(seeWithin)
	defer timer.Stop()
	for {
		v.mu.Lock()
		seen, st := v.seen, v.state.Load()
		v.mu.Unlock()
		if seen >= rev {
			return rev, nil
		}
		select {
		case <-st.changed:
			continue
		case <-timer.C:
		case <-ctx.Done():
		case <-v.ctx.Done():
		}
		return rev, nil
	}
}

// CompareAndSet publishes a value if the key has revision rev, as of
// [Snapshot.Revision]; 0 stands for no value. Else the error is [ErrConflict], as
// a [ConflictError]. A reply that was lost is no conflict: a value that this call
// has published is found again.
func (v *Variable[T]) CompareAndSet(ctx context.Context, rev int64, value T, opts ...PublishOption) (int64, error) {
	c, err := v.Change(value)
	if err != nil {
		return 0, err
	}
	c.Expect = &rev
	return v.publishAndSee(ctx, c, opts)
}

// Delete publishes a tombstone: programs with a default go back to it, those
// without keep their value. It is [ErrNotFound] if there is no value.
func (v *Variable[T]) Delete(ctx context.Context, opts ...PublishOption) (int64, error) {
	return v.publishAndSee(ctx, Change{Key: v.key, Delete: true}, opts)
}

// Rollback publishes again, as a new version, the value that was in force at
// revision to, which has to pass the Variable's own check. The error is
// [ErrNotFound] if the history does not have it, [ErrDeleted] if the key was
// deleted then.
func (v *Variable[T]) Rollback(ctx context.Context, to int64, opts ...PublishOption) (int64, error) {
	old, err := v.store.At(ctx, v.key, to)
	if err != nil {
		return 0, err
	}
	if old.Deleted {
		return 0, named(v.key, ErrDeleted)
	}
	if _, err := v.dec.value(old); err != nil {
		return 0, named(v.key, err)
	}
	return v.publishAndSee(ctx, Change{Key: v.key, Value: old.Value, Codec: old.Codec, Of: old.Revision}, opts)
}

// Change returns the publication of a value for a release of
// several keys with [Store.Publish].
func (v *Variable[T]) Change(value T) (Change, error) {
	data, err := v.dec.encode(value)
	if err != nil {
		return Change{}, named(v.key, err)
	}
	return Change{Key: v.key, Value: data, Codec: v.dec.codec.Name()}, nil
}

// History reads the versions that are kept, newest first. One whose value is not
// good has no Value, and says why in Rejected. The error is the last pair.
func (v *Variable[T]) History(ctx context.Context) iter.Seq2[*Snapshot[T], error] {
	return func(yield func(*Snapshot[T], error) bool) {
		for version, err := range v.store.History(ctx, v.key, 0) {
			if err != nil {
				yield(nil, err)
				return
			}
			var value T
			var why error
			if !version.Deleted {
				value, why = v.dec.value(version)
			}
			snap := of(version, value)
			snap.Rejected = why
			if !yield(snap, nil) {
				return
			}
		}
	}
}
