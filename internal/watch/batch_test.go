package watch

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"pgregory.net/rapid"
)

// store is a model of a prefix in etcd.
type store struct {
	revision int64
	keys     table
}

// write applies one revision of random puts and deletes, and returns its events.
func (s *store) write(t *rapid.T) []*clientv3.Event {
	s.revision++
	var events []*clientv3.Event
	for _, k := range rapid.SliceOfNDistinct(rapid.IntRange(0, 5), 1, 3, rapid.ID).Draw(t, "keys") {
		key := []byte{'k', byte('0' + k)}
		old := s.keys[string(key)]
		if old != nil && rapid.Bool().Draw(t, "delete") {
			delete(s.keys, string(key))
			events = append(events, &clientv3.Event{
				Type: clientv3.EventTypeDelete,
				Kv:   &mvccpb.KeyValue{Key: key, ModRevision: s.revision},
			})
			continue
		}
		kv := &mvccpb.KeyValue{Key: key, Value: []byte{byte(s.revision)}, ModRevision: s.revision, CreateRevision: s.revision}
		if old != nil {
			kv.CreateRevision = old.CreateRevision
		}
		s.keys[string(key)] = kv
		events = append(events, &clientv3.Event{Type: clientv3.EventTypePut, Kv: kv})
	}
	return events
}

func (s *store) list() []*mvccpb.KeyValue {
	var kvs []*mvccpb.KeyValue
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		kvs = append(kvs, s.keys[key])
	}
	return kvs
}

// Applied events and a difference lead to the same table as the store's own; a
// difference says what changed, and nothing else.
func TestDiffLeadsToTheList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, seen := &store{keys: table{}}, table{}
		for range rapid.IntRange(0, 10).Draw(t, "seen") {
			seen.apply(s.write(t))
		}
		if !maps.Equal(seen, s.keys) {
			t.Fatalf("applied: %v, want %v", seen, s.keys)
		}
		for range rapid.IntRange(0, 10).Draw(t, "missed") {
			s.write(t)
		}
		checkDiff(t, seen, s.list(), s.revision)
	})
}

func checkDiff(t rapid.TB, seen table, list []*mvccpb.KeyValue, revision int64) {
	t.Helper()
	before := maps.Clone(seen)
	events := seen.diff(list, revision)
	if !maps.Equal(seen, before) {
		t.Fatalf("diff changed the table")
	}
	for i, ev := range events {
		key := string(ev.Kv.Key)
		if i > 0 && bytes.Compare(events[i-1].Kv.Key, ev.Kv.Key) >= 0 {
			t.Fatalf("%q after %q", key, events[i-1].Kv.Key)
		}
		if ev.PrevKv != before[key] {
			t.Fatalf("%q was %v, the event says %v", key, before[key], ev.PrevKv)
		}
		if ev.Type == clientv3.EventTypeDelete && (ev.PrevKv == nil || ev.Kv.ModRevision != revision) {
			t.Fatalf("delete of %q: %v", key, ev)
		}
		if ev.Type == clientv3.EventTypePut && ev.PrevKv != nil && same(ev.PrevKv, ev.Kv) {
			t.Fatalf("put of %q changes nothing", key)
		}
	}
	seen.apply(events)
	want := tableOf(list)
	if !maps.EqualFunc(seen, want, same) {
		t.Fatalf("got %v, want %v", seen, want)
	}
	if again := seen.diff(list, revision); len(again) != 0 {
		t.Fatalf("a second difference: %v", again)
	}
}

// FuzzDiff reads two lists from bytes, three for each key.
func FuzzDiff(f *testing.F) {
	f.Add([]byte("aaabbb"), []byte("aaabbc"))
	f.Add([]byte(""), []byte("aaa"))
	f.Add([]byte("aaa"), []byte(""))
	f.Fuzz(func(t *testing.T, old, present []byte) {
		checkDiff(t, tableOf(listOf(old)), listOf(present), 1000)
	})
}

func listOf(data []byte) []*mvccpb.KeyValue {
	t := table{}
	for ; len(data) >= 3; data = data[3:] {
		t[string(data[:1])] = &mvccpb.KeyValue{Key: data[:1], ModRevision: int64(data[1]), Value: data[2:3]}
	}
	return (&store{keys: t}).list()
}

func TestCutKeepsRevisionsTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		revisions := rapid.SliceOfN(rapid.Int64Range(1, 6), 1, 12).Draw(t, "revisions")
		slices.Sort(revisions)
		var events, joined []*clientv3.Event
		for _, r := range revisions {
			events = append(events, &clientv3.Event{Kv: &mvccpb.KeyValue{ModRevision: r}})
		}
		last := int64(0)
		for rest := events; len(rest) > 0; {
			var first []*clientv3.Event
			first, rest = cut(rest)
			for _, ev := range first {
				if ev.Kv.ModRevision != first[0].Kv.ModRevision || ev.Kv.ModRevision <= last {
					t.Fatalf("%d in the batch of %d after %d", ev.Kv.ModRevision, first[0].Kv.ModRevision, last)
				}
			}
			last = first[0].Kv.ModRevision
			joined = append(joined, first...)
		}
		if !slices.Equal(joined, events) {
			t.Fatalf("%d events of %d", len(joined), len(events))
		}
	})
}
