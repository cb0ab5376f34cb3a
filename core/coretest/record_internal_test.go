package coretest

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Events must wait for the watch to catch up with the store. A watch is too quick to be caught behind, so this one is worked by hand.
func TestEventsWaitsForTheWatch(t *testing.T) {
	e := StartEtcd(t)
	r := &Recorder{tb: t, etcd: e, seen: e.Revision(t), changed: make(chan struct{})}
	put, err := e.Client(t).Put(t.Context(), "k", "v")
	if err != nil {
		t.Fatal(err)
	}
	got, err := e.Client(t).Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan int, 1)
	go func() { events <- len(r.Events()) }()
	e.Revision(t) // as long as Events itself needs to ask
	select {
	case n := <-events:
		t.Errorf("Events returned %d events although revision %d has not been seen", n, put.Header.Revision)
		return
	default:
	}
	r.add(clientv3.WatchResponse{Events: []*clientv3.Event{{Kv: got.Kvs[0]}}})
	if n := <-events; n != 1 {
		t.Errorf("%d events, want 1", n)
	}
}
