package coretest_test

import (
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/coretest"
)

func TestRecorderKeepsEveryEventUnderItsPrefix(t *testing.T) {
	c, prefix := etcd.Client(t), etcd.Prefix(t)+"/"
	if _, err := c.Put(t.Context(), prefix+"before", "v"); err != nil {
		t.Fatal(err)
	}
	rec := etcd.Record(t, prefix)
	if got := rec.Events(); len(got) != 0 {
		t.Errorf("events of the past: %v", got)
	}
	for range 50 {
		if _, err := c.Txn(t.Context()).Then(clientv3.OpPut(prefix+"a", "v"), clientv3.OpPut(prefix+"b", "v"), clientv3.OpPut(t.Name(), "v")).Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Delete(t.Context(), prefix, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	if puts, deletes := rec.Count(); puts != 100 || deletes != 3 {
		t.Errorf("%d puts and %d deletes, want 100 and 3", puts, deletes)
	}
	rec.Reset()
	if got := rec.Events(); len(got) != 0 {
		t.Errorf("events after Reset: %v", got)
	}
}

func TestRecorderWaitsForEvents(t *testing.T) {
	c, prefix := etcd.Client(t), etcd.Prefix(t)+"/"
	rec := etcd.Record(t, prefix)
	put := make(chan error, 1)
	go func() {
		_, err := c.Put(t.Context(), prefix+"k", "v")
		put <- err
	}()
	if got := rec.Wait(1); len(got) != 1 || string(got[0].Kv.Key) != prefix+"k" {
		t.Errorf("events %v", got)
	}
	if err := <-put; err != nil {
		t.Error(err)
	}
}

func TestFencedResourceRefusesWhatAnUnfencedOneTakes(t *testing.T) {
	var r coretest.FencedResource
	write := func(name string, token int64, wantStale bool) {
		t.Helper()
		if err := r.Write(name, token, "v"); (err != nil) != wantStale {
			t.Errorf("write %s with %d: %v", name, token, err)
		}
	}
	write("a", 5, false)
	write("a", 5, false)
	write("b", 1, false)
	write("a", 4, true)
	r.WriteUnfenced("a", 4, "late")
	r.WriteUnfenced("a", 7, "new")
	write("a", 6, true)
	if got, want := r.Counts(), (coretest.FencedCounts{Accepted: 4, Refused: 2, UnfencedStale: 1, UnfencedInOrder: 1}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
	if v, highest := r.Read("a"); v != "new" || highest != 7 {
		t.Errorf("read %q, %d", v, highest)
	}
}
