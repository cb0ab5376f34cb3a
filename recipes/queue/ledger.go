package queue

import (
	"context"
	"strings"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/watch"
	"github.com/conclavehq/conclave/queue"
)

// A ledger counts what one stream delivered and nobody has settled.
type ledger struct {
	credits int

	mu      sync.Mutex
	unpaid  map[queue.ID]int64 // the revision of each delivery that counts
	stands  map[queue.ID]int64 // what stands of the session in etcd, as of seen
	seen    int64
	changed chan struct{} // one token: there may be room
}

func newLedger(credits int) *ledger {
	return &ledger{credits: credits, unpaid: make(map[queue.ID]int64), stands: make(map[queue.ID]int64), changed: make(chan struct{}, 1)}
}

// room waits until something may be delivered, and returns how much.
func (l *ledger) room(ctx context.Context) (int, error) {
	for {
		l.mu.Lock()
		n := l.credits - len(l.unpaid)
		l.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-l.changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// tokenShift is the place of the revision in a token, see docs/keyspace.md.
const tokenShift = 16

// open counts a delivery, unless it is known to be settled already.
func (l *ledger) open(id queue.ID, token core.Token) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rev := int64(token) >> tokenShift
	if rev > l.seen || l.stands[id] == rev {
		l.unpaid[id] = rev
	}
}

// learn takes in what became of the session's deliveries.
func (l *ledger) learn(prefix string, b watch.Batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.Snapshot {
		clear(l.stands)
	}
	for _, ev := range b.Events {
		id := queue.ID(strings.TrimPrefix(string(ev.Kv.Key), prefix))
		if ev.Type == clientv3.EventTypeDelete {
			delete(l.stands, id)
		} else {
			l.stands[id] = ev.Kv.ModRevision
		}
	}
	l.seen = b.Revision
	for id, rev := range l.unpaid {
		if rev <= l.seen && l.stands[id] != rev {
			delete(l.unpaid, id)
		}
	}
	select {
	case l.changed <- struct{}{}:
	default:
	}
}
