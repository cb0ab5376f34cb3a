package workqueue

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/watch"
)

// stay is how long a session that was first waits before it takes a place again.
const stay = 5 * time.Millisecond

// maxEvents is how many items the first in line remembers; beyond it it looks.
const maxEvents = 512

// line is a session's place among those that wait for items. Only the first one
// watches the queue, the others watch the one in front of them.
type line struct {
	p      *puller
	key    string // of every place that it had
	place  string // the same, while it has one; else ""
	since  int64  // create revision of the place
	rank   int    // how many are in front
	stayed bool   // it has waited for a moment without a place
	ahead  string // whom this session watches; "" if it is the first
	wake   chan struct{}
	front  *watch.Watch // of ahead

	mu    sync.Mutex
	queue *watch.Watch // of what comes into the queue
	wants bool         // the events of queue are for this session
	gap   bool         // the watch of the queue has ended, or missed something
	hint  bool         // something else came in
	items []candidate
}

// wait waits, in line, until there may be something to deliver, somebody else
// waits here, or time has passed.
func (l *line) wait(ctx context.Context) error {
	if l.place == "" && l.opened() && !l.stayed {
		// It was the first just now, and others may not have come: a moment costs
		// less than a place.
		l.stayed = true
		return l.idle(ctx, stay)
	}
	if l.place == "" {
		return l.enter(ctx) // and then look again
	}
	if l.ahead == "" && l.opened() {
		return l.idle(ctx, time.Second)
	}
	again, err := l.stand(ctx)
	if err != nil || again {
		return err
	}
	return l.idle(ctx, time.Duration(1+l.rank/8)*time.Second+rand.N(time.Second))
}

// opened tells that the queue's events come in without a gap.
func (l *line) opened() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wants && l.queue != nil && !l.gap
}

// idle waits for an event, at most for d, or until a delay is over.
func (l *line) idle(ctx context.Context, d time.Duration) error {
	if until := time.Until(l.p.due); !l.p.due.IsZero() && until < d {
		d = max(until, 0)
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-l.wake:
	case <-l.p.d.demand:
	case <-timer.C:
	case <-ctx.Done():
	case <-l.p.d.e.Session().Done():
	}
	return nil
}

// enter takes a place at the end of the line.
func (l *line) enter(ctx context.Context) error {
	e := l.p.d.e
	if l.key == "" {
		// The same one each time: every other key would stay in etcd's index until a
		// compaction, in the way of whoever reads the line.
		l.key = l.p.d.root.idles() + e.NewID()
	}
	r, err := e.Do(ctx, commit.Txn{Scope: []string{l.key}, Likely: true, If: []clientv3.Cmp{absent(l.key)},
		Then: []clientv3.Op{clientv3.OpPut(l.key, "", clientv3.WithLease(e.Lease()))}, Else: []clientv3.Op{clientv3.OpGet(l.key)}})
	if err != nil {
		return err
	}
	l.place, l.since = l.key, r.Revision
	if !r.Succeeded { // a put whose reply was lost
		l.since = first(r, 0).CreateRevision
	}
	_, err = l.stand(ctx)
	return err
}

// stand finds out who is in front, and watches that one, or as the first one the
// queue. It tells whether to look at the queue before waiting.
func (l *line) stand(ctx context.Context) (again bool, err error) {
	e, k := l.p.d.e, l.p.d.root
	resp, err := read(ctx, e, all(k.idles(), clientv3.WithKeysOnly()))
	if err != nil {
		return false, err
	}
	kvs := resp.Responses[0].GetResponseRange().GetKvs()
	slices.SortFunc(kvs, func(a, b *mvccpb.KeyValue) int { return int(a.CreateRevision - b.CreateRevision) })
	at := slices.IndexFunc(kvs, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == l.place })
	switch {
	case at < 0 || kvs[at].CreateRevision != l.since:
		l.place = ""
		return true, nil
	case at > 0:
		l.rank = at
		return l.follow(ctx, string(kvs[at-1].Key))
	}
	l.unfollow()
	return true, l.open(ctx)
}

// follow watches the one in front.
func (l *line) follow(ctx context.Context, ahead string) (again bool, err error) {
	l.listen(false)
	if l.ahead == ahead && l.front != nil {
		return false, nil
	}
	l.unfollow()
	w, err := watch.Key(ctx, l.p.d.e.Client(), ahead, watch.Options{NoPut: true, Streams: l.p.d.e.Streams(),
		Event: func(*clientv3.Event) { l.note() }, Lost: func(error) { l.note() }})
	if err != nil {
		return false, err
	}
	l.ahead, l.front = ahead, w
	resp, err := read(ctx, l.p.d.e, clientv3.OpGet(ahead, clientv3.WithKeysOnly()))
	return err == nil && len(resp.Responses[0].GetResponseRange().GetKvs()) == 0, err
}

func (l *line) unfollow() {
	if l.front != nil {
		l.front.Close()
		l.front = nil
	}
	l.ahead = ""
}

// open watches what comes into the queue.
func (l *line) open(ctx context.Context) error {
	if l.listen(true) {
		return nil
	}
	l.shut()
	w, err := watch.Key(ctx, l.p.d.e.Client(), l.p.d.root.in(), watch.Options{Prefix: true, NoDelete: true, Streams: l.p.d.e.Streams(),
		Event: l.event, Lost: func(error) { l.missed() }})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = w
	return nil
}

// shut ends the watch of the queue, if there is one.
func (l *line) shut() {
	l.mu.Lock()
	w := l.queue
	l.queue, l.gap, l.items = nil, false, nil
	l.mu.Unlock()
	if w != nil {
		w.Close()
	}
}

// listen says whether the queue's events are wanted, and tells whether they come
// in.
func (l *line) listen(wants bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wants = wants
	return l.queue != nil && !l.gap
}

// event takes note of an item, or ends a watch that nobody wants any more.
func (l *line) event(ev *clientv3.Event) {
	l.mu.Lock()
	c, ok := l.p.d.root.candidateOf(ev.Kv)
	switch {
	case !l.wants || len(l.items) == maxEvents:
		l.gap, l.items = true, nil
	case ok:
		l.items = append(l.items, c)
	default:
		l.hint = true
	}
	if l.gap && l.queue != nil {
		l.queue.Stop()
	}
	l.mu.Unlock()
	l.note()
}

// hinted tells, once, that something came in that is not an item in its place.
func (l *line) hinted() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	hint := l.hint
	l.hint = false
	return hint
}

func (l *line) missed() {
	l.mu.Lock()
	l.gap = true
	l.mu.Unlock()
	l.note()
}

func (l *line) note() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// events returns the items that the queue's watch told of after a revision, in
// order.
func (l *line) events(after int64) []candidate {
	l.mu.Lock()
	defer l.mu.Unlock()
	items := l.items
	l.items = nil
	if !l.wants || l.gap {
		return nil
	}
	latest := make(map[string]int64, len(items))
	for _, c := range items {
		latest[idOf(c.key)] = max(latest[idOf(c.key)], c.mod)
	}
	items = slices.DeleteFunc(items, func(c candidate) bool { // it has moved since
		return latest[idOf(c.key)] != c.mod || c.mod <= after
	})
	slices.SortFunc(items, byOrder)
	return items
}

// leftLine says that the place was given up with a claim.
func (l *line) leftLine() {
	l.place = ""
	l.unfollow()
}

// leave gives the place up.
func (l *line) leave() {
	if l.place == "" {
		return
	}
	key, since := l.place, l.since
	l.leftLine()
	l.p.d.e.Submit([]string{key}, func() commit.Txn {
		return commit.Txn{Scope: []string{key}, If: []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", since)}, Then: []clientv3.Op{clientv3.OpDelete(key)}, Likely: true}
	}, func(commit.Result, error) {})
}
