package history

import (
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/recipes/internal/state"
)

// Between tells of a name as it was at a revision, and then after each later one
// that changed it, until another revision. Where etcd has compacted the
// first it begins with the oldest that there is, and says that there is a gap. The
// name is only good until tell returns.
func Between(ctx context.Context, c *clientv3.Client, s state.Space, name string, from, to int64, tell func(rev int64, n *state.Name, gap bool)) error {
	segment, spans := keyspace.Escape(name), []span{prefixSpan(s.Name(name))}
	base := from
	for range tries {
		err := between(ctx, c, state.NewNames(s), spans, base, to, func(rev int64, names *state.Names) {
			n := names.Get(segment)
			if n == nil {
				n = &state.Name{Segment: segment}
			}
			tell(rev, n, rev == base && base != from)
		})
		compacted := new(compactedError)
		switch {
		case errors.As(err, &compacted):
			base = compacted.first
		case isCompacted(err):
			if base, err = (catchUp{client: c, space: space{s}}).compacted(ctx); err != nil {
				return err
			}
		default:
			return err
		}
	}
	return errCompactedAgain
}

// errCompactedAgain says that compaction got ahead of every attempt.
var errCompactedAgain = errors.New("etcd compacts what is being read")

// between tells nothing if base is compacted.
func between(ctx context.Context, c *clientv3.Client, names *state.Names, spans []span, base, to int64, tell func(rev int64, names *state.Names)) error {
	load := func(resp *clientv3.GetResponse) {
		for _, kv := range resp.Kvs {
			names.Put(kv)
		}
	}
	if err := read(ctx, c, spans, base, load); err != nil {
		return err
	}
	type change struct {
		rev    int64
		events []*clientv3.Event
	}
	var changes []change // which compaction may cut off before the first one
	err := replay(ctx, c, spans, base+1, to, func(rev int64, events []*clientv3.Event) {
		changes = append(changes, change{rev, events})
	})
	if err != nil {
		return err
	}
	tell(base, names)
	for _, ch := range changes {
		for _, ev := range ch.events {
			names.Apply(ev)
		}
		tell(ch.rev, names)
	}
	return nil
}
