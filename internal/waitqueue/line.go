package waitqueue

import (
	"context"
	"sync"

	"github.com/conclavehq/conclave/internal/engine"
)

// A line is the goroutines of one session that want one name exclusively with
// one priority. One of them, the head, acts in etcd for all: it takes, waits or
// owns. When it lets go it hands over to the next here as well, in the same
// transaction.
type line struct {
	mu        sync.Mutex
	head      *acquisition
	queue     []*acquisition
	room      [1]*acquisition // for a queue of one, as is usual
	releasing bool            // the head's release is under way
	settled   chan struct{}   // closed at its end; nil if nobody waits for that
	record    Record          // of the owner, for messages
}

// handed is what a local successor is given: a tenure to own, a place in line
// (the ticket's create revision), or nothing: then it starts afresh.
type handed struct {
	tenure *tenure
	create int64
	// unsure: the predecessor's release may have written the successor's
	// keys, or may yet.
	unsure bool
}

// localLine returns the line that a stands in, or nil: only exclusive owners
// of one name have one, unless they stand apart.
func (a *acquisition) localLine() *line {
	if a.req.Mode != Exclusive || a.req.OnePerLease || a.req.Apart {
		return nil
	}
	if a.line == nil {
		a.line = a.parts[0].n.localLine(a.bucket())
	}
	return a.line
}

// join makes a the head, or queues it.
func (l *line) join(a *acquisition) (head bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head == nil {
		l.head = a
		return true
	}
	a.start = make(chan handed, 1)
	l.queue = append(l.queue, a)
	return false
}

// tryJoin makes a the head if nobody here owns or waits. It waits out a release
// that is under way, so that a try after a deferred release finds what it left.
func (l *line) tryJoin(ctx context.Context, a *acquisition) bool {
	for {
		l.mu.Lock()
		if l.head == nil {
			l.head = a
			l.mu.Unlock()
			return true
		}
		if !l.releasing || len(l.queue) > 0 {
			l.mu.Unlock()
			return false
		}
		if l.settled == nil {
			l.settled = make(chan struct{})
		}
		settled := l.settled
		l.mu.Unlock()
		select {
		case <-settled:
		case <-ctx.Done():
			return false
		}
	}
}

// leave takes a out of the queue; it reports false if a was called already.
func (l *line) leave(a *acquisition) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, b := range l.queue {
		if a == b {
			l.queue = append(l.queue[:i], l.queue[i+1:]...)
			return true
		}
	}
	return false
}

// next takes the first out of the queue, for the head's release to hand over to.
func (l *line) next() *acquisition {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.queue) == 0 {
		return nil
	}
	a := l.queue[0]
	l.queue[0] = nil
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.room[0], l.queue = nil, l.room[:0]
	}
	return a
}

// release marks that the head lets go, until succeed or advance.
func (l *line) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.releasing = true
}

// succeed makes a the head and gives it h.
func (l *line) succeed(a *acquisition, h handed) {
	l.mu.Lock()
	l.head, l.record = a, Record{}
	l.settle()
	l.mu.Unlock()
	a.start <- h
}

// advance ends the head's turn: the next one starts afresh, if there is one.
func (l *line) advance() {
	if a := l.next(); a != nil {
		l.succeed(a, handed{})
		return
	}
	l.mu.Lock()
	if len(l.queue) == 0 {
		l.head, l.record = nil, Record{}
		l.settle()
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.advance() // one came meanwhile
}

// settle wakes those who wait out a release. It is called with the lock held.
func (l *line) settle() {
	l.releasing = false
	if l.settled != nil {
		close(l.settled)
		l.settled = nil
	}
}

func (l *line) owned(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.record = r
}

func (l *line) holder() Record {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.record
}

// waitLocally waits for a's turn in the local line.
func (a *acquisition) waitLocally(ctx context.Context, l *line) (*Owned, error) {
	caller, session, more := engine.Ends(ctx)
	select {
	case h := <-a.start:
		return a.resume(ctx, h)
	case <-caller:
	case <-session:
	case <-more:
	}
	_ = ctx.Err() // finds out which
	if l.leave(a) {
		a.done()
		return nil, waitError(ctx)
	}
	// A release already works for a. What it hands over is let go again.
	a.q.e.Go(func(context.Context) {
		o, err := a.resume(ctx, <-a.start)
		if err == nil {
			_ = o.Release()
		}
	})
	return nil, waitError(ctx)
}

// resume goes on with what the predecessor handed over.
func (a *acquisition) resume(ctx context.Context, h handed) (*Owned, error) {
	a.uncertain = a.uncertain || h.unsure
	switch {
	case h.tenure != nil:
		return a.conclude(ctx, h.tenure, nil)
	case h.create > 0:
		a.parts[0].create, a.entered = h.create, true
		t, err := a.waitInLine(ctx)
		return a.conclude(ctx, t, err)
	default:
		t, err := a.takeOrWait(ctx)
		return a.conclude(ctx, t, err)
	}
}
