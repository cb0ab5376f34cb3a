package waitqueue

import (
	"context"
	"errors"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// An end is what became of an ownership that somebody waits out.
type end struct {
	seen bool
	rev  int64 // at which it had ended
	late bool  // but perhaps it had before
}

// endOf waits for the change that ends c's ownership, as long as within says. It
// watches from the revision at which c was read, since that of the grant may be
// compacted.
func (q *Queue) endOf(ctx context.Context, c Contender, within time.Duration) (end, error) {
	if within <= 0 {
		return end{}, nil
	}
	bounded, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for from, pause := c.asOf+1, 10*time.Millisecond; ; pause = min(2*pause, time.Second) {
		e, err := q.nextChange(bounded, c.key, from)
		if _, lost := errors.AsType[*watch.LostError](err); lost { // which is no news: look
			if sleep(bounded, pause) == nil {
				e, from, err = q.lookFor(bounded, c)
			}
		}
		switch {
		case err == nil && e.seen:
			return e, nil
		case ctx.Err() != nil:
			return end{}, waitError(ctx)
		case bounded.Err() != nil:
			return end{}, nil
		case err != nil:
			return end{}, err
		}
	}
}

// lookFor tells whether c has ended, and from which revision on to watch if not.
func (q *Queue) lookFor(ctx context.Context, c Contender) (end, int64, error) {
	resp, err := q.e.Client().Get(ctx, c.key)
	switch {
	case err != nil:
		return end{}, 0, err
	case len(resp.Kvs) == 0 || resp.Kvs[0].ModRevision != c.revision:
		return end{seen: true, rev: resp.Header.Revision, late: true}, 0, nil
	}
	return end{}, resp.Header.Revision + 1, nil
}

// nextChange waits for the first change of a key from a revision on.
func (q *Queue) nextChange(ctx context.Context, key string, from int64) (end, error) {
	changed, lost := make(chan *clientv3.Event, 1), make(chan error, 1)
	w, err := watch.Key(ctx, q.e.Client(), key, watch.Options{Revision: from, Streams: q.streams,
		Event: func(ev *clientv3.Event) {
			select {
			case changed <- ev:
			default: // only the first one counts
			}
		}, Lost: func(err error) { lost <- err }})
	if err != nil {
		return end{}, err
	}
	defer w.Close()
	select {
	case ev := <-changed:
		return end{seen: true, rev: ev.Kv.ModRevision}, nil
	case err := <-lost:
		return end{}, err
	case <-ctx.Done():
		return end{}, ctx.Err()
	}
}
