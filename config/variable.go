package config

import (
	"context"
	"errors"
	"iter"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// fallbackAfter is how long Open waits for etcd when there is a copy on disk.
const fallbackAfter = 3 * time.Second

// A Variable is one key of the configuration as a program sees it: the last good
// value, kept up to date in the background. It is safe for concurrent use; to
// look at it costs no request.
type Variable[T any] struct {
	key   string
	store *Store
	dec   decoder[T]

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	done chan struct{} // closed when nothing runs in the background any more

	mu       sync.Mutex // held by whoever changes what follows
	state    atomic.Pointer[state[T]]
	seen     int64        // the revision that state is of
	stable   *Snapshot[T] // what there is without a rollout
	trying   *trial       // of the rollout's value that is in force
	declined int64        // revision of the last candidate that this instance refused

	begun  chan error // the first good value, or why there is none
	copied int64      // revision of the copy on disk; of the follower
	work   sync.WaitGroup
}

// state is a snapshot, and the channel that is closed when another replaces it.
type state[T any] struct {
	*Snapshot[T]

	changed chan struct{}
}

// Open reads a key and follows it until Close. The ctx bounds Open alone; while
// etcd is away Open waits for it, or starts with the file of [WithFallbackFile].
//
// The error is core.ErrInvalid, ctx's, etcd's if it refuses the key; or, if
// there is no good value, neither in the history nor on disk nor as a default,
// [ErrNotFound], [ErrDeleted], [ErrMissing], [ErrDamaged] or [ErrRejected].
func Open[T any](ctx context.Context, c *clientv3.Client, key string, opts ...Option) (*Variable[T], error) {
	s := NewStore(c, opts...)
	if err := s.check(key); err != nil {
		return nil, named(key, err)
	}
	dec, err := newDecoder[T](s.opts)
	if err != nil {
		return nil, named(key, err)
	}
	if err := s.opts.instance.check(s.opts); err != nil {
		return nil, named(key, err)
	}
	v := &Variable[T]{key: key, store: s, dec: dec, done: make(chan struct{}), begun: make(chan error, 1)}
	v.ctx, v.stop = context.WithCancel(context.Background())
	go v.run()
	if err := v.begin(ctx); err != nil {
		return nil, named(key, errors.Join(err, v.Close()))
	}
	if v.store.opts.instance != nil {
		v.work.Go(v.report)
	}
	return v, nil
}

// begin waits for the first value.
func (v *Variable[T]) begin(ctx context.Context) error {
	var patience <-chan time.Time
	if v.dec.options.fallback != "" {
		timer := time.NewTimer(fallbackAfter)
		defer timer.Stop()
		patience = timer.C
	}
	for {
		select {
		case err := <-v.begun:
			return err
		case <-patience:
			patience = nil
			if v.beginWithCopy() {
				return nil
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// beginWithCopy reports whether there is a value now.
func (v *Variable[T]) beginWithCopy() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.state.Load() != nil {
		return true
	}
	snap := v.fromCopy()
	if snap == nil {
		return false
	}
	v.store.opts.log.Warn("config: etcd does not answer; started with the copy on disk", "key", v.key, "revision", snap.Revision)
	snap.Stale = true
	v.stable = snap
	v.publish(snap)
	return true
}

// fromCopy returns what the copy on disk says, nil if there is no good one.
func (v *Variable[T]) fromCopy() *Snapshot[T] {
	if v.dec.options.fallback == "" {
		return nil
	}
	version, err := v.dec.options.readCopy(v.key)
	if err == nil && version.Deleted {
		return v.byDefault(version)
	}
	var value T
	if err == nil {
		value, err = v.dec.value(version)
	}
	if err != nil {
		v.store.opts.log.Warn("config: no copy on disk to start with", "key", v.key, "err", err)
		return nil
	}
	return of(version, value)
}

// byDefault returns the default in place of a tombstone, nil if there is none.
func (v *Variable[T]) byDefault(tombstone *Version) *Snapshot[T] {
	if !v.dec.hasValue {
		return nil
	}
	snap := of(tombstone, v.dec.fallback)
	snap.Revision = 0
	return snap
}

func (v *Variable[T]) run() {
	defer close(v.done)
	f := follower{s: v.store, key: v.key, rollouts: v.store.opts.instance != nil, stale: v.setStale, yield: func(now view) bool {
		v.take(now)
		return v.ctx.Err() == nil
	}}
	f.follow(v.ctx, func(err error) {
		v.store.opts.log.Warn("config: etcd refuses the key", "key", v.key, "err", err)
		if !v.beginWithCopy() {
			v.begins(err)
		}
		v.setStale(true, err)
	})
}

// begins tells Open. Only the first time counts.
func (v *Variable[T]) begins(err error) {
	select {
	case v.begun <- err:
	default:
	}
}

// setStale is told whether anything is heard from etcd.
func (v *Variable[T]) setStale(stale bool, _ error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	st := v.state.Load()
	if st == nil || st.Stale == stale {
		return
	}
	snap := *st.Snapshot
	snap.Stale = stale
	v.publish(&snap)
}

// publish replaces the snapshot; mu is held.
func (v *Variable[T]) publish(snap *Snapshot[T]) {
	if now := v.state.Load(); now != nil && now.same(snap) {
		return
	}
	old := v.state.Swap(&state[T]{Snapshot: snap, changed: make(chan struct{})})
	if old != nil {
		close(old.changed)
	}
	v.begins(nil)
}

// take makes a snapshot of what etcd has now.
func (v *Variable[T]) take(now view) {
	if !v.judge(now) {
		return
	}
	version := now.version
	if v.dec.options.fallback != "" && version.Revision != v.copied {
		if err := v.dec.options.writeCopy(version); err != nil {
			v.store.opts.log.Warn("config: no copy on disk", "key", v.key, "err", err)
			return
		}
		v.copied = version.Revision
	}
}

// judge publishes the snapshot that follows from a view, and reports whether the
// version in it is good.
func (v *Variable[T]) judge(now view) (good bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen = now.revision
	stable, good := v.settle(now.version)
	if stable == nil {
		return false
	}
	v.stable = stable
	if snap := v.try(now.rollout); snap != nil {
		v.publish(snap)
	} else {
		v.publish(stable)
	}
	return good
}

// settle returns the snapshot that follows from a version, and whether the version
// is good; nil if there is no value to begin with. mu is held.
func (v *Variable[T]) settle(version *Version) (*Snapshot[T], bool) {
	if v.stable != nil && version.Problem == nil && v.stable.Number == version.Number && v.stable.Revision == version.Revision {
		snap := *v.stable // only the rollout has changed
		snap.Stale = false
		return &snap, snap.Rejected == nil
	}
	snap, why := v.good(version)
	good := snap != nil
	if !good {
		if snap = v.lastGood(); snap == nil {
			v.begins(why)
			return nil, false
		}
		snap.reject(version, why)
	}
	if good && version.Problem != nil {
		snap.Rejected = version.Problem
	}
	if why := snap.Rejected; why != nil {
		v.store.opts.log.Warn("config: the last good value is kept", "key", v.key, "revision", version.Revision, "err", why)
	}
	return snap, good
}

// good returns the snapshot of a version whose value is good, or why it is not.
func (v *Variable[T]) good(version *Version) (*Snapshot[T], error) {
	switch {
	case version.Deleted:
		if snap := v.byDefault(version); snap != nil {
			return snap, nil
		}
		return nil, ErrDeleted
	case version.Value == nil:
		return nil, version.Problem
	}
	value, err := v.dec.value(version)
	if err != nil {
		return nil, err
	}
	return of(version, value), nil
}

// lastGood returns what there is in place of a value that is not good, for its
// caller to complete; nil if there is nothing.
func (v *Variable[T]) lastGood() *Snapshot[T] {
	if v.stable != nil {
		snap := *v.stable
		snap.Stale = false
		return &snap
	}
	if snap := v.fromCopy(); snap != nil {
		return snap
	}
	if v.dec.hasValue {
		return &Snapshot[T]{Value: v.dec.fallback}
	}
	return nil
}

// Key returns the name of the key.
func (v *Variable[T]) Key() string { return v.key }

// Latest returns the present snapshot. It never blocks, makes no request, and
// works also after Close.
func (v *Variable[T]) Latest() *Snapshot[T] { return v.state.Load().Snapshot }

// Watch yields the present snapshot, and then every one that replaces it. A loop
// that is slow sees the newest in place of those that it missed, and always the
// last one. The error is the last pair: ctx's cause, or [ErrClosed].
func (v *Variable[T]) Watch(ctx context.Context) iter.Seq2[*Snapshot[T], error] {
	return func(yield func(*Snapshot[T], error) bool) {
		for {
			st := v.state.Load()
			if !yield(st.Snapshot, nil) {
				return
			}
			select {
			case <-st.changed:
				continue
			case <-ctx.Done():
				yield(nil, named(v.key, context.Cause(ctx)))
			case <-v.ctx.Done():
				yield(nil, named(v.key, ErrClosed))
			}
			return
		}
	}
}

// Close ends what keeps the Variable up to date. [Variable.Latest] keeps its last
// snapshot. Close is idempotent and returns nil.
func (v *Variable[T]) Close() error {
	v.stop()
	<-v.done
	v.mu.Lock()
	v.endTrial()
	v.mu.Unlock()
	v.work.Wait()
	return nil
}
