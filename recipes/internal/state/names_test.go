package state_test

import (
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/recipes/internal/state"
)

// A name that takes the place of a forgotten one has nothing of it.
func TestNamesAreReused(t *testing.T) {
	s := state.NewSpace("default", "lock")
	ns := state.NewNames(s)
	ns.Reuse = true
	event := func(kind mvccpb.Event_EventType, name, rest string) *state.Name {
		return ns.Apply(&clientv3.Event{Type: kind, Kv: &mvccpb.KeyValue{Key: []byte(s.Name(name) + rest), Value: []byte("1")}})
	}
	old := event(mvccpb.PUT, "old", "grant")
	event(mvccpb.PUT, "old", "limit")
	if old.Idle() || old.Limit() != 1 || ns.Get("old") != old {
		t.Fatalf("got %+v", old)
	}
	event(mvccpb.DELETE, "old", "grant")
	event(mvccpb.DELETE, "old", "limit")
	if ns.Get("old") != nil {
		t.Fatal("the name was not forgotten")
	}
	next := event(mvccpb.PUT, "next", "grant")
	if next.Segment != "next" || len(next.Owners) != 1 || next.Limit() != 0 || ns.Get("next") != next || ns.Get("old") != nil {
		t.Errorf("got %+v", next)
	}
	if next != old {
		t.Error("the forgotten name was not used again")
	}
}
