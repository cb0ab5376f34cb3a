package history

import (
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/recipes/internal/state"
)

// What was put below a name is told, and nothing of names that begin alike.
func TestPutsOfATurn(t *testing.T) {
	s := space{state.NewSpace("default", "lock")}
	var events []*clientv3.Event
	event := func(sort mvccpb.Event_EventType, name, rest string) {
		events = append(events, &clientv3.Event{Type: sort, Kv: &mvccpb.KeyValue{Key: []byte(s.Name(name) + rest)}})
	}
	event(mvccpb.DELETE, "jobs", "grant")
	event(mvccpb.PUT, "jobs", "void/1-a")
	event(mvccpb.PUT, "jobs2", "grant")
	event(mvccpb.PUT, "jo", "grant")
	for i := range 3000 { // so that the filter tells apart hardly any
		event(mvccpb.PUT, fmt.Sprint("other-", i), "grant")
	}
	event(mvccpb.PUT, "jobs", "read/1-b")
	u := turn{events: events}
	for segment, want := range map[string][]string{"jobs": {"void/1-a", "read/1-b"}, "jobs2": {"grant"}, "job": nil, "none": nil} {
		var got []string
		for kv := range u.puts(s, segment) {
			_, rest, _ := s.Split(string(kv.Key))
			got = append(got, rest)
		}
		if !slices.Equal(got, want) {
			t.Errorf("below %s it puts %q, want %q", segment, got, want)
		}
	}
	alone := turn{events: events[1:2]}
	for kv := range alone.puts(s, "jobs") {
		t.Errorf("one event puts %s beside itself", kv.Key)
	}
}
