package election

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/internal/watch"
)

// historyWait bounds the attempt to read what a gap hides.
const historyWait = 10 * time.Second

// askAgain is how often it is asked whether all has been told: etcd answers only
// when the watch has caught up, which it does every 100 ms.
const askAgain = 50 * time.Millisecond

// errIncomplete says that a watch ended before it told everything.
var errIncomplete = errors.New("the history is incomplete")

// fill takes a batch that leads over a gap: it tells, one by one, of the changes
// in the gap that etcd still has. Those that were compacted are lost; the state
// at the oldest revision is not, and may prove that there were none.
func (f *feed) fill(ctx context.Context, b watch.Batch) {
	ctx, cancel := context.WithTimeout(ctx, historyWait)
	defer cancel()
	from := b.Resync.From + 1
	events, oldest, err := f.history(ctx, from, b.Revision)
	if errors.Is(err, rpctypes.ErrCompacted) && oldest <= b.Revision {
		if err = f.jumpTo(ctx, oldest); err == nil {
			events, _, err = f.history(ctx, oldest+1, b.Revision)
		}
	}
	if err == nil {
		for len(events) > 0 {
			n := 1
			for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
				n++
			}
			f.change(events[0].Kv.ModRevision, events[:n])
			events = events[n:]
		}
		return
	}
	f.log.Debug("the gap stays", "from", b.Resync.From, "to", b.Resync.To, "error", err)
	created, version := f.standing.Grant()
	f.apply(b.Events)
	f.tell(b.Revision, f.sure(created, version))
}

// jumpTo goes on with the state at a revision.
func (f *feed) jumpTo(ctx context.Context, revision int64) error {
	resp, err := f.client.Get(ctx, f.standing.Prefix(), clientv3.WithPrefix(), clientv3.WithRev(revision))
	if err != nil {
		return err
	}
	created, version := f.standing.Grant()
	f.standing.Clear()
	for _, kv := range resp.Kvs {
		f.standing.Put(kv)
	}
	f.tell(revision, f.sure(created, version))
	return nil
}

// sure tells whether no term can have come and gone between what was told last,
// where the grant had this create revision and version, and the standing. A grant
// that stands since then counts the terms.
func (f *feed) sure(created, version int64) bool {
	if f.key.shared {
		now := leadersOf(f.standing, 0)
		return len(now) > 0 && sameTerms(now, f.told)
	}
	nowCreated, nowVersion := f.standing.Grant()
	return created != 0 && created == nowCreated && nowVersion <= version+1
}

// history reads the changes from one revision to another. If the first ones were
// compacted it returns the oldest revision that etcd still has.
func (f *feed) history(ctx context.Context, from, to int64) (events []*clientv3.Event, oldest int64, err error) {
	if from > to {
		return nil, 0, nil
	}
	// On a stream of its own: a progress notification is for all watches of one.
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx), "conclave-history", strconv.FormatUint(rand.Uint64(), 36)))
	defer cancel()
	responses := f.client.Watch(ctx, f.standing.Prefix(), clientv3.WithPrefix(), clientv3.WithRev(from), clientv3.WithFragment())
	ask := time.NewTicker(askAgain)
	defer ask.Stop()
	for {
		select {
		case resp, ok := <-responses:
			switch {
			case !ok:
				return nil, 0, errIncomplete
			case resp.CompactRevision > 0:
				return nil, resp.CompactRevision, rpctypes.ErrCompacted
			case resp.Err() != nil:
				return nil, 0, resp.Err()
			}
			for _, ev := range resp.Events {
				if ev.Kv.ModRevision > to {
					return events, 0, nil
				}
				events = append(events, ev)
			}
			if resp.IsProgressNotify() && resp.Header.Revision >= to { // it comes when all else has come
				return events, 0, nil
			}
		case <-ask.C:
			if err := f.client.RequestProgress(ctx); err != nil {
				return nil, 0, err
			}
		}
	}
}

// apply changes the standing.
func (f *feed) apply(events []*clientv3.Event) {
	for _, ev := range events {
		if ev.Type == clientv3.EventTypeDelete {
			f.standing.Delete(string(ev.Kv.Key))
		} else {
			f.standing.Put(ev.Kv)
		}
	}
}
