package watch_test

import (
	"maps"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// state is what a consumer builds from batches; it checks what Batch promises.
type state struct {
	revision int64
	values   map[string]string
	events   []string // every event after the snapshot, but those of a Resync
	resyncs  []watch.Resync
}

func newState() *state { return &state{values: map[string]string{}} }

func (s *state) take(t *testing.T, b watch.Batch) {
	t.Helper()
	if b.Revision <= s.revision {
		t.Fatalf("batch %d after %d", b.Revision, s.revision)
	}
	if b.Snapshot != (s.revision == 0) {
		t.Fatalf("batch %d after %d: snapshot is %v", b.Revision, s.revision, b.Snapshot)
	}
	if b.Resync != nil {
		if b.Resync.From < s.revision || b.Resync.To != b.Revision {
			t.Fatalf("batch %d after %d: resync %+v", b.Revision, s.revision, *b.Resync)
		}
		s.resyncs = append(s.resyncs, *b.Resync)
	}
	s.revision = b.Revision
	seen := map[string]bool{}
	for _, ev := range b.Events {
		key := string(ev.Kv.Key)
		if seen[key] {
			t.Fatalf("batch %d has two events of %s", b.Revision, key)
		}
		seen[key] = true
		s.event(t, b, ev)
	}
}

func (s *state) event(t *testing.T, b watch.Batch, ev *clientv3.Event) {
	t.Helper()
	single := !b.Snapshot && b.Resync == nil
	if rev := ev.Kv.ModRevision; rev > b.Revision || single && rev != b.Revision {
		t.Fatalf("batch %d has an event of %d", b.Revision, rev)
	}
	key := string(ev.Kv.Key)
	old, had := s.values[key]
	if had != (ev.PrevKv != nil) || had && string(ev.PrevKv.Value) != old {
		t.Fatalf("batch %d: %s has the previous value %v, delivered was %q, %v", b.Revision, key, ev.PrevKv, old, had)
	}
	if ev.Type == clientv3.EventTypeDelete {
		delete(s.values, key)
	} else {
		s.values[key] = string(ev.Kv.Value)
	}
	if single {
		s.events = append(s.events, show(ev))
	}
}

// wantList compares the state with what etcd holds now.
func (s *state) wantList(t *testing.T, c *clientv3.Client, prefix string) {
	t.Helper()
	resp, err := c.Get(ctxOf(t), prefix, clientv3.WithPrefix())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, kv := range resp.Kvs {
		want[string(kv.Key)] = string(kv.Value)
	}
	if !maps.Equal(s.values, want) {
		t.Errorf("at %d the loop believes %v\netcd has %v", s.revision, s.values, want)
	}
}

// history reads every event of a prefix between two revisions from etcd itself.
func history(t *testing.T, c *clientv3.Client, prefix string, after, until int64) []string {
	t.Helper()
	var events []string
	for resp := range c.Watch(ctxOf(t), prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1)) {
		if err := resp.Err(); err != nil {
			t.Fatal(err)
		}
		for _, ev := range resp.Events {
			if ev.Kv.ModRevision <= until {
				events = append(events, show(ev))
			}
		}
		// etcd never divides a revision between responses.
		if n := len(resp.Events); n > 0 && resp.Events[n-1].Kv.ModRevision >= until {
			return events
		}
	}
	t.Fatal("the history ended early")
	return nil
}
