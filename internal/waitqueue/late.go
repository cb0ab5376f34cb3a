package waitqueue

import (
	"sync"
	"time"
)

// late is when an owner begins to watch its grant: most ownerships end before,
// and a watch from the grant's revision on misses nothing.
const late = 250 * time.Millisecond

// latecomers are the tenures that nobody watches yet, the oldest first. All wait
// equally long, so that one timer serves them.
type latecomers struct {
	mu          sync.Mutex
	first, last *tenure
	timer       *time.Timer
	armed       bool
	closed      bool
}

// add lets t watch its grant once it has lasted for a while.
func (l *latecomers) add(t *tenure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	t.waits = true
	if t.older = l.last; l.last == nil {
		l.first = t
	} else {
		l.last.younger = t
	}
	l.last = t
	if !l.armed {
		l.arm(late)
	}
}

func (l *latecomers) arm(d time.Duration) {
	l.armed = true
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.wake)
	} else {
		l.timer.Reset(d)
	}
}

// remove takes t out, if it is in.
func (l *latecomers) remove(t *tenure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.drop(t)
}

func (l *latecomers) drop(t *tenure) {
	if !t.waits {
		return
	}
	if t.older == nil {
		l.first = t.younger
	} else {
		t.older.younger = t.younger
	}
	if t.younger == nil {
		l.last = t.older
	} else {
		t.younger.older = t.older
	}
	t.older, t.younger, t.waits = nil, nil, false
}

// wake starts the watches that are due. Each waits for etcd by itself.
func (l *latecomers) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for t := l.first; t != nil; t = l.first {
		if left := late - time.Since(t.since); left > 0 {
			l.arm(left)
			return
		}
		l.drop(t)
		go t.watch()
	}
	l.armed = false
}

// close forgets all.
func (l *latecomers) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.timer != nil {
		l.timer.Stop()
	}
}
