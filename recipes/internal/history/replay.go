package history

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/metadata"
)

// A span is a range of keys, its end excluded.
type span struct{ from, end string }

// page bounds how many keys one read brings.
const page = 2000

// A compactedError says that a revision is gone, and which is the first to be had.
type compactedError struct{ first int64 }

func (e *compactedError) Error() string {
	return fmt.Sprintf("revisions before %d are compacted", e.first)
}

// read tells of every key of the spans as they were at a revision.
func read(ctx context.Context, c *clientv3.Client, spans []span, rev int64, each func(*clientv3.GetResponse)) error {
	for _, s := range spans {
		for from := s.from; ; {
			resp, err := c.Get(ctx, from, clientv3.WithRange(s.end), clientv3.WithRev(rev), clientv3.WithLimit(page))
			if err != nil {
				return err
			}
			each(resp)
			if !resp.More {
				break
			}
			from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
		}
	}
	return nil
}

// replay tells of every event of the spans from one revision to another, both
// included, one revision after the other. The events of the last span are told
// as they come, those of the others are kept in memory. The error is a
// *compactedError if the first revision is gone; then nothing was told.
func replay(ctx context.Context, c *clientv3.Client, spans []span, from, to int64, each func(rev int64, events []*clientv3.Event)) error {
	if from > to {
		return nil
	}
	m := merger{each: each}
	last := len(spans) - 1
	for _, s := range spans[:last] {
		if err := replaySpan(ctx, c, s, from, to, func(ev *clientv3.Event) { m.side = append(m.side, ev) }); err != nil {
			return err
		}
	}
	slices.SortStableFunc(m.side, func(a, b *clientv3.Event) int { return cmp.Compare(a.Kv.ModRevision, b.Kv.ModRevision) })
	if err := replaySpan(ctx, c, spans[last], from, to, m.push); err != nil {
		return err
	}
	m.flush(to + 1)
	return nil
}

// A merger puts the events of one revision together.
type merger struct {
	each  func(rev int64, events []*clientv3.Event)
	side  []*clientv3.Event // sorted by revision
	group []*clientv3.Event // of one revision
}

func (m *merger) push(ev *clientv3.Event) {
	m.flush(ev.Kv.ModRevision)
	m.group = append(m.group, ev)
}

// flush tells of everything before a revision.
func (m *merger) flush(before int64) {
	for {
		rev := before
		if len(m.side) > 0 {
			rev = min(rev, m.side[0].Kv.ModRevision)
		}
		if len(m.group) > 0 {
			rev = min(rev, m.group[0].Kv.ModRevision)
		}
		if rev >= before {
			return
		}
		var now []*clientv3.Event
		if len(m.group) > 0 && m.group[0].Kv.ModRevision == rev {
			now, m.group = m.group, nil
		}
		for len(m.side) > 0 && m.side[0].Kv.ModRevision == rev {
			now, m.side = append(now, m.side[0]), m.side[1:]
		}
		m.each(rev, now)
	}
}

// askEvery is how often etcd is asked how far a watch is.
const askEvery = 20 * time.Millisecond

var errEnded = errors.New("the watch ended")

func replaySpan(ctx context.Context, c *clientv3.Client, s span, from, to int64, push func(*clientv3.Event)) error {
	// Metadata of its own gives the watch a stream of its own. etcd answers a
	// request for progress once all watches of the stream are in step with the
	// store, and the client hands the answer to all of them: on a shared stream
	// also to one that was made after etcd had answered.
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(clientv3.WithRequireLeader(ctx),
		"conclave-watch", "replay-"+strconv.FormatUint(rand.Uint64(), 36)))
	defer cancel()
	responses := c.Watch(ctx, s.from, clientv3.WithRange(s.end), clientv3.WithRev(from), clientv3.WithFragment())
	ask := time.NewTicker(askEvery)
	defer ask.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ask.C:
			if err := c.RequestProgress(ctx); err != nil {
				return err
			}
		case resp, ok := <-responses:
			switch {
			case !ok:
				return errEnded
			case resp.CompactRevision != 0:
				return &compactedError{resp.CompactRevision}
			case resp.Err() != nil:
				return resp.Err()
			}
			for _, ev := range resp.Events {
				if ev.Kv.ModRevision <= to {
					push(ev)
				}
			}
			if done(resp, to) {
				return nil
			}
		}
	}
}

// done tells that no event up to a revision is still to come.
func done(resp clientv3.WatchResponse, to int64) bool {
	if resp.IsProgressNotify() {
		return resp.Header.Revision >= to
	}
	n := len(resp.Events)
	return n > 0 && resp.Events[n-1].Kv.ModRevision > to
}

func isCompacted(err error) bool { return errors.Is(err, rpctypes.ErrCompacted) }
