package waitqueue

import (
	"context"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// linger is how long a name keeps its watch after its last use, so that a name
// in steady use enters its line in one round trip.
const linger = 10 * time.Second

// A name is what one session keeps of one name: the watch on its own tickets,
// the local lines, and what it last saw of the permits.
type name struct {
	keys
	name string
	q    *Queue

	mu      sync.Mutex
	users   int
	dropped *time.Timer // closes the watches when nobody used the name for a while
	tickets map[string]*acquisition
	watches map[bucket]*ownWatch
	lines   map[bucket]*line
	view    permitView
	flight  *flight // for the only ownership of the lease
	// releases are under way, but their callers have gone on.
	releases []*pass
	// littered: keys were seen that do not keep the name from being free, such
	// as the record of an acquisition with an unknown outcome.
	littered bool
	// crowded: somebody else waited lately, so that a release had better be
	// ready to hand over.
	crowded bool
}

// An ownWatch is the watch on the session's own tickets in one bucket. It is
// opened before any ticket is put, hence a grant cannot be missed.
type ownWatch struct {
	opening chan struct{} // holds one token: who has it opens the watch
	w       *watch.Watch  // nil when it is not open
}

// watchOwn opens the watch on the session's own tickets of a bucket if it is
// not open. Tickets put after its return will be seen.
func (n *name) watchOwn(ctx context.Context, b bucket) error {
	n.mu.Lock()
	o := n.watches[b]
	if o == nil {
		o = &ownWatch{opening: make(chan struct{}, 1)}
		n.watches[b] = o
	}
	n.mu.Unlock()
	select {
	case o.opening <- struct{}{}:
		defer func() { <-o.opening }()
	case <-ctx.Done(): // another one may wait for etcd much longer
		return waitError(ctx)
	}
	if n.watched(b) {
		return nil
	}
	prefix := n.q.mineInLine(n.keys, b).from
	w, err := watch.Key(ctx, n.q.e.Client(), prefix, watch.Options{
		Prefix:  true,
		Streams: n.q.streams,
		Event:   n.onTicket,
		Lost:    func(error) { n.lostOwn(o, b) },
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	o.w = w
	n.mu.Unlock()
	return nil
}

func (n *name) watched(b bucket) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	o := n.watches[b]
	return o != nil && o.w != nil
}

func (n *name) onTicket(ev *clientv3.Event) {
	n.mu.Lock()
	a := n.tickets[string(ev.Kv.Key)]
	n.mu.Unlock()
	if a != nil {
		a.onTicket(ev)
	}
}

// lostOwn wakes whoever waits in the bucket: they watch again, then look.
func (n *name) lostOwn(o *ownWatch, b bucket) {
	n.mu.Lock()
	o.w = nil
	var woken []*acquisition
	for key, a := range n.tickets {
		if strings.HasPrefix(key, n.bucket(b).from) {
			woken = append(woken, a)
		}
	}
	n.mu.Unlock()
	for _, a := range woken {
		a.see(func(s *sightings) { s.look = true })
	}
}

// expect routes events on a ticket to a; forget stops that.
func (n *name) expect(a *acquisition, ticket string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tickets[ticket] = a
}

func (n *name) forget(a *acquisition, ticket string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tickets[ticket] == a { // else another one took the ticket up
		delete(n.tickets, ticket)
	}
}

func (n *name) isLittered() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.littered
}

// litter notes that the name has keys although nobody owns it exclusively.
func (n *name) litter() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.littered = true
}

func (n *name) setCrowded(c bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.crowded = c
}

func (n *name) isCrowded() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.crowded
}

// localLine returns the line of the session's goroutines in one bucket.
func (n *name) localLine(b bucket) *line {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := n.lines[b]
	if l == nil {
		l = new(line)
		n.lines[b] = l
	}
	return l
}

// close ends the watches.
func (n *name) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.watches {
		if o.w != nil {
			o.w.Stop()
			o.w = nil
		}
	}
}
