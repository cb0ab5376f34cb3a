package rendezvous

import (
	"context"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// A board is one thing that many goroutines of a session wait for: one watch, and
// one read where a read is needed, serve them all. Nothing runs by itself: whoever
// waits drives it.
type board[V any] struct {
	h      *Hall
	key    string
	prefix bool // watches what begins with key, and of that deletions only
	// read asks etcd for the value, linearizably, and returns the revision.
	read func(ctx context.Context) (V, int64, error)
	// told returns the value that an event tells; nil if an event only says that
	// another read is due.
	told func(*clientv3.Event) V

	// seen is told of every value, in order and with the lock held: who waits may see
	// the last one only. May be nil.
	seen func(V)

	turn chan struct{} // holds one token: who has it opens the watch and reads

	mu      sync.Mutex
	opening *opening
	w       *watch.Watch // nil when it is not open
	value   V
	rev     int64 // at which the value was so
	known   bool
	stale   int64 // a read of an older revision is not enough
	begun   uint64
	done    uint64        // the last read that succeeded, by the number with which it began
	changed chan struct{} // closed at the next change
	closed  bool
}

func newBoard[V any](h *Hall, key string) *board[V] {
	return &board[V]{h: h, key: key, turn: make(chan struct{}, 1), changed: make(chan struct{})}
}

// now returns the value, whether it is known, and a channel that is closed when
// that changes.
func (b *board[V]) now() (v V, known bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.value, b.known, b.changed
}

// get returns the value as it is known, and reads it only if it is not.
func (b *board[V]) get(ctx context.Context) (V, error) {
	if v, known, _ := b.now(); known {
		return v, nil
	}
	return b.fresh(ctx)
}

// fresh returns the value as a read saw it that began after the call, with the
// watch open before it. Callers at one time share a read.
func (b *board[V]) fresh(ctx context.Context) (v V, err error) {
	b.mu.Lock()
	wanted := b.begun + 1
	b.mu.Unlock()
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return v, waitError(ctx)
	}
	for {
		if v, ok := b.asOf(wanted); ok {
			return v, nil
		}
		if err := b.open(ctx); err != nil {
			return v, err
		}
		number := b.next()
		value, rev, err := b.read(ctx)
		if err != nil {
			return v, err
		}
		b.took(value, rev, number)
	}
}

// asOf returns the value if it is as new as a read of that number.
func (b *board[V]) asOf(number uint64) (v V, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.value, b.known && b.done >= number
}

// next returns the number of a read that begins.
func (b *board[V]) next() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.begun++
	return b.begun
}

// took takes the value that a read saw.
func (b *board[V]) took(v V, rev int64, number uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rev < b.stale || b.w == nil { // an event came that it does not know, or the watch was lost
		return
	}
	b.done = max(b.done, number)
	if rev >= b.rev {
		b.set(v, rev)
	} else {
		b.known = true // an event was faster
	}
}

// learn takes a value that a reply told, as of a revision.
func (b *board[V]) learn(v V, rev int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if rev > b.rev && b.known {
		b.set(v, rev)
	}
}

// set is called with the lock held.
func (b *board[V]) set(v V, rev int64) {
	b.value, b.rev, b.known = v, rev, true
	if b.seen != nil {
		b.seen(v)
	}
	b.announce()
}

func (b *board[V]) announce() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// An opening is one try to watch; a lost one is no news of a later one.
type opening struct{ lost bool }

// open opens the watch if it is not open. It is called by the one whose turn it is.
func (b *board[V]) open(ctx context.Context) error {
	o := new(opening)
	b.mu.Lock()
	if b.w != nil {
		b.mu.Unlock()
		return nil
	}
	b.opening = o
	b.mu.Unlock()
	w, err := watch.Key(ctx, b.h.e.Client(), b.key, watch.Options{
		Prefix: b.prefix, NoPut: b.prefix, Streams: b.h.e.Streams(), Event: b.event,
		Lost: func(error) { b.lost(o) },
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case o.lost:
		return errLostWatch
	case b.closed:
		w.Stop()
		return b.h.ended()
	}
	b.w = w
	return nil
}

// event acts on an event.
func (b *board[V]) event(ev *clientv3.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	rev := ev.Kv.ModRevision
	switch {
	case rev <= b.rev && b.known:
	case b.told != nil:
		if b.known { // else a read is under way, and the event may be older than what it sees
			b.set(b.told(ev), rev)
		} else {
			b.stale = max(b.stale, rev)
		}
	default:
		b.stale, b.known = max(b.stale, rev), false
		b.announce()
	}
}

// lost forgets the value: who waits reads it again, behind another watch.
func (b *board[V]) lost(o *opening) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o.lost = true
	if b.opening == o {
		b.w, b.known = nil, false
		b.announce()
	}
}

// close ends the watch for good.
func (b *board[V]) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.w != nil {
		b.w.Stop()
	}
}
