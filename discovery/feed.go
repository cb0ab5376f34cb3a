package discovery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

const (
	// diskAfter is how long a feed waits for etcd's first answer before it begins
	// with the copy on disk.
	diskAfter = time.Second
	// refused is how long a feed waits after etcd refused to be watched.
	refused = 2 * time.Second
)

// A feedKey is what resolvers have in common that share a feed.
type feedKey struct {
	namespace, service string
	reader             reader
}

// A feed follows one service, for all who want to know.
type feed struct {
	feedKey
	hub   *hub
	c     *clientv3.Client
	log   *slog.Logger
	cell  atomic.Pointer[cell]
	used  atomic.Bool // since the last look of who forgets
	users atomic.Int64

	stop context.CancelFunc
	done chan struct{}

	table   *table
	guard   *guard
	balance *balance
	disk    *disk
	heard   bool // etcd has answered
	rev     int64

	telling sync.Mutex // while the cell is exchanged
	over    atomic.Bool

	mu      sync.Mutex
	silence error         // why nothing is heard of etcd; nil: it is
	changed chan struct{} // one token: silence did
}

// A cell is what is known, and a channel that is closed when that changes.
type cell struct {
	snap *Snapshot // nil: nothing yet
	err  error     // why nothing is, if etcd says so
	next chan struct{}
}

func newFeed(h *hub, key feedKey, log *slog.Logger) *feed {
	prefix := servicePrefix(key.namespace, key.service)
	f := &feed{feedKey: key, hub: h, c: h.c, log: log, done: make(chan struct{}), changed: make(chan struct{}, 1),
		table: newTable(key.service, prefix), guard: newGuard(key.reader), balance: newBalance(), disk: newDisk(key, log)}
	f.cell.Store(&cell{next: make(chan struct{})})
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	go f.run(ctx)
	return f
}

// publish makes what is known known.
func (f *feed) publish(s *Snapshot, err error) {
	f.telling.Lock()
	defer f.telling.Unlock()
	old := f.cell.Swap(&cell{snap: s, err: err, next: make(chan struct{})})
	close(old.next)
}

// rouse makes all who wait look, without anything being new. Thousands may wait:
// so they wait for as few channels as can be.
func (f *feed) rouse() {
	f.telling.Lock()
	defer f.telling.Unlock()
	c := *f.cell.Load()
	old := f.cell.Swap(&cell{snap: c.snap, err: c.err, next: make(chan struct{})})
	close(old.next)
}

// run follows the service until the feed is stopped.
func (f *feed) run(ctx context.Context) {
	defer close(f.done)
	defer f.rouse()
	defer f.over.Store(true)
	batches := make(chan watch.Batch)
	var observing sync.WaitGroup
	observing.Go(func() { f.observe(ctx, batches) })
	defer observing.Wait()
	defer f.disk.close()
	late := time.NewTimer(diskAfter)
	defer late.Stop()
	look := time.NewTimer(time.Hour)
	defer look.Stop()
	idle := f.idling()
	defer idle.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-batches:
			f.take(b)
		case <-f.changed:
		case <-late.C:
			f.fromDisk()
			continue
		case <-idle.C:
			if !f.used.Swap(false) && f.users.Load() == 0 {
				f.hub.expire(f)
				f.stop()
				return
			}
			idle.Reset(f.reader.idle)
			continue
		case <-look.C:
		}
		if next := f.tell(); !next.IsZero() {
			look.Reset(max(time.Until(next), time.Millisecond))
		}
	}
}

func (f *feed) idling() *time.Timer {
	if f.reader.idle == 0 {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTimer(f.reader.idle)
}

// observe reads etcd, and begins anew whatever ends it.
func (f *feed) observe(ctx context.Context, batches chan<- watch.Batch) {
	opts := watch.ObserveOptions{Stale: f.quiet, StaleAfter: f.reader.staleAfter, Quiet: min(f.reader.staleAfter/3, watch.DefaultQuiet),
		Streams: &f.hub.streams, Logger: f.log}
	for ctx.Err() == nil {
		for b, err := range watch.Observe(ctx, f.c, f.table.prefix, opts) {
			if err != nil {
				if ctx.Err() == nil {
					f.refused(err)
				}
				break
			}
			select {
			case batches <- b:
			case <-ctx.Done():
			}
		}
		p := pause(refused)
		if p.wait(ctx) != nil || f.c.Ctx().Err() != nil {
			return
		}
	}
}

// quiet is told when nothing is heard of etcd any more, and when something is
// again.
func (f *feed) quiet(stale bool, cause error) {
	if !stale {
		cause = nil
	} else if cause == nil {
		cause = errors.New("nothing heard from etcd")
	}
	f.silent(cause)
}

// refused is told what etcd says that does not want to be watched.
func (f *feed) refused(err error) {
	f.log.Warn("a service cannot be watched; it will be tried again", "service", f.service, "error", err)
	f.silent(err)
}

func (f *feed) silent(cause error) {
	f.mu.Lock()
	f.silence = cause
	f.mu.Unlock()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *feed) silenceIs() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.silence
}

// take takes in what etcd says.
func (f *feed) take(b watch.Batch) {
	now := time.Now()
	if b.Snapshot {
		f.replace(b, now)
	} else {
		for _, ev := range b.Events {
			f.event(ev, now)
		}
	}
	f.heard, f.rev = true, b.Revision
	f.mu.Lock()
	f.silence = nil
	f.mu.Unlock()
}

// replace takes in a whole list. What is missing in it vanished, since an earlier
// list or the one on disk.
func (f *feed) replace(b watch.Batch, now time.Time) {
	present := make(map[string]bool, len(b.Events))
	for _, ev := range b.Events {
		if id, ok := f.table.id(ev.Kv.Key); ok {
			present[id] = true
		}
	}
	for _, id := range append([]string(nil), f.table.ids...) {
		if !present[id] {
			f.vanish(id, now)
		}
	}
	for _, ev := range b.Events {
		f.event(ev, now)
	}
}

func (f *feed) event(ev *clientv3.Event, now time.Time) {
	if ev.Type == clientv3.EventTypeDelete {
		if id, ok := f.table.id(ev.Kv.Key); ok {
			f.vanish(id, now)
		}
		return
	}
	if id, _ := f.table.put(ev.Kv); id != "" {
		f.guard.known(id)
	}
}

func (f *feed) vanish(id string, now time.Time) {
	if i, known := f.table.byID[id]; known && i.State.Usable() {
		f.guard.vanished(i, now)
	}
	f.table.remove(id)
}

// tell publishes what is known, if it is new, and returns when to look again.
func (f *feed) tell() (next time.Time) {
	silence := f.silenceIs()
	if !f.heard {
		f.tellNothing(silence)
		return time.Time{}
	}
	next = f.guard.judge(f.table.usable(), time.Now())
	s := f.table.snapshot(f.guard.kept())
	s.Revision, s.balance = f.rev, f.balance
	switch {
	case silence != nil:
		s.Stale, s.Cause = true, silence
	case f.guard.holding:
		s.Stale, s.Cause = true, ErrMassLoss
	}
	if old := f.cell.Load().snap; old != nil && old.says(s) {
		return next
	}
	if f.guard.holding {
		f.log.Warn("most instances of a service vanished at once; they are kept for now", "service", f.service, "kept", s.Kept)
	}
	f.balance.forget(s)
	f.publish(s, nil)
	if !s.Stale && len(s.Instances) > 0 {
		f.disk.write(s)
	}
	return next
}

// says reports whether two snapshots say the same. A revision that only moved a
// registration to another lease is nothing that a reader has to know.
func (s *Snapshot) says(t *Snapshot) bool {
	if s.Stale != t.Stale || s.Kept != t.Kept || len(s.Instances) != len(t.Instances) || len(s.Others) != len(t.Others) {
		return false
	}
	for k := range s.Instances {
		if !same(&s.Instances[k], &t.Instances[k]) {
			return false
		}
	}
	for k := range s.Others {
		if !same(&s.Others[k], &t.Others[k]) {
			return false
		}
	}
	return true
}

// tellNothing tells those who wait for the first answer why there is none.
func (f *feed) tellNothing(silence error) {
	old := f.cell.Load()
	if old.snap != nil && silence != nil {
		s := *old.snap
		s.Cause = errors.Join(ErrFromDisk, silence)
		f.publish(&s, nil)
		return
	}
	if _, final := errors.AsType[*watch.LostError](silence); final && old.snap == nil {
		f.publish(nil, silence)
	}
}

// fromDisk begins with the copy on disk, if etcd has not answered yet.
func (f *feed) fromDisk() {
	if f.heard {
		return
	}
	s := f.disk.read()
	if s == nil {
		return
	}
	for _, i := range s.Instances {
		f.table.set(i.ID, i)
	}
	s.Stale, s.Cause, s.balance = true, ErrFromDisk, f.balance
	f.publish(s, nil)
}
