package coretest

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Recorder keeps every event under a prefix, in order. Its methods may be called from any goroutine.
type Recorder struct {
	tb     testing.TB
	etcd   *Etcd
	prefix string

	mu      sync.Mutex
	seen    int64 // the last revision whose events are here
	err     error
	events  []*clientv3.Event
	changed chan struct{} // closed and replaced whenever one of these changes
}

// Record starts to record the events under prefix that come after this call, and stops when the test ends.
func (e *Etcd) Record(tb testing.TB, prefix string) *Recorder {
	tb.Helper()
	r := &Recorder{tb: tb, etcd: e, prefix: prefix, seen: e.Revision(tb), changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	// Every key is watched, not only the prefix: each revision then brings an event, which tells what has been seen so far.
	w := e.Client(tb).Watch(ctx, "", clientv3.WithPrefix(), clientv3.WithRev(r.seen+1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for resp := range w {
			r.add(resp)
		}
		r.end(errors.New("the watch has ended"))
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
	return r
}

func (r *Recorder) add(resp clientv3.WatchResponse) {
	if err := resp.Err(); err != nil {
		r.end(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range resp.Events {
		r.seen = max(r.seen, ev.Kv.ModRevision)
		if bytes.HasPrefix(ev.Kv.Key, []byte(r.prefix)) {
			r.events = append(r.events, ev)
		}
	}
	r.wake()
}

func (r *Recorder) end(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
	r.wake()
}

func (r *Recorder) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Events returns all events under the prefix so far: every change that was acknowledged to anyone before this call is among them.
func (r *Recorder) Events() []*clientv3.Event {
	r.tb.Helper()
	rev := r.etcd.Revision(r.tb)
	return r.await(func() bool { return r.seen >= rev })
}

// Wait returns the events so far as soon as there are at least n.
func (r *Recorder) Wait(n int) []*clientv3.Event {
	r.tb.Helper()
	return r.await(func() bool { return len(r.events) >= n })
}

// Count returns how many of the events so far are puts and how many are deletes.
func (r *Recorder) Count() (puts, deletes int) {
	r.tb.Helper()
	for _, ev := range r.Events() {
		if ev.Type == clientv3.EventTypeDelete {
			deletes++
		} else {
			puts++
		}
	}
	return puts, deletes
}

// Reset forgets the events so far.
func (r *Recorder) Reset() {
	r.tb.Helper()
	n := len(r.Events())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = r.events[n:]
}

// await waits for ready, which is called under the lock.
func (r *Recorder) await(ready func() bool) []*clientv3.Event {
	r.tb.Helper()
	ctx, cancel := wait()
	defer cancel()
	for {
		r.mu.Lock()
		ok, err, changed := ready(), r.err, r.changed
		events := append([]*clientv3.Event(nil), r.events...)
		r.mu.Unlock()
		switch {
		case ok:
			return events
		case err != nil:
			r.tb.Fatalf("coretest: record %q: %v", r.prefix, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			r.tb.Fatalf("coretest: record %q: %d events, and no more in %v", r.prefix, len(events), patience)
		}
	}
}
