package watch

import (
	"bytes"
	"slices"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Batch is everything that one revision did to a prefix: applied one after the
// other, the batches of an observation always give a state that existed.
type Batch struct {
	// Revision is the store's revision after the batch. It grows strictly from
	// batch to batch, unless the whole store was replaced by an older one.
	Revision int64
	// Snapshot marks the first batch. Its events are one put for each key of the
	// prefix at Revision, sorted by key.
	Snapshot bool
	// Resync, if not nil, marks a batch that leads to Revision in one step,
	// because the single revisions could not be had. Its events are what changed
	// in sum, sorted by key: at most one for each key, a put with the present
	// value, or a delete whose ModRevision is Revision.
	Resync *Resync
	// Events are shared with the observation and must not be changed. PrevKv is
	// the last value that was delivered of the key, nil if there was none: a
	// delete always tells what is gone. It may be empty in a Resync.
	Events []*clientv3.Event
}

// Resync is the gap that a batch closes: states between From and To, both
// exclusive, may never be seen.
type Resync struct {
	From, To int64
}

// table is what has been delivered of a prefix: the last value of each key.
type table map[string]*mvccpb.KeyValue

// tableOf returns the table of a complete list.
func tableOf(kvs []*mvccpb.KeyValue) table {
	t := make(table, len(kvs))
	for _, kv := range kvs {
		t[string(kv.Key)] = kv
	}
	return t
}

// apply takes events in and completes each with the value before it.
func (t table) apply(events []*clientv3.Event) {
	for _, ev := range events {
		key := string(ev.Kv.Key)
		ev.PrevKv = t[key]
		if ev.Type == clientv3.EventTypeDelete {
			delete(t, key)
		} else {
			t[key] = ev.Kv
		}
	}
}

// diff returns the events that lead from t to the list kvs at revision, sorted
// by key, and does not change t. A key that was deleted and put again is a put.
func (t table) diff(kvs []*mvccpb.KeyValue, revision int64) []*clientv3.Event {
	var events []*clientv3.Event
	present := make(map[string]struct{}, len(kvs))
	for _, kv := range kvs {
		present[string(kv.Key)] = struct{}{}
		old := t[string(kv.Key)]
		if old == nil || !same(old, kv) {
			events = append(events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv, PrevKv: old})
		}
	}
	for key, old := range t {
		if _, ok := present[key]; !ok {
			events = append(events, &clientv3.Event{
				Type:   clientv3.EventTypeDelete,
				Kv:     &mvccpb.KeyValue{Key: old.Key, ModRevision: revision},
				PrevKv: old,
			})
		}
	}
	slices.SortFunc(events, func(a, b *clientv3.Event) int {
		return bytes.Compare(a.Kv.Key, b.Kv.Key)
	})
	return events
}

// same compares bytes too, since in a store that was replaced by another the
// same revision may have written something else.
func same(a, b *mvccpb.KeyValue) bool {
	return a.ModRevision == b.ModRevision && a.CreateRevision == b.CreateRevision && bytes.Equal(a.Value, b.Value)
}

// cut returns the events of the first revision, and the rest.
func cut(events []*clientv3.Event) (first, rest []*clientv3.Event) {
	n := 1
	for n < len(events) && events[n].Kv.ModRevision == events[0].Kv.ModRevision {
		n++
	}
	return events[:n:n], events[n:]
}
