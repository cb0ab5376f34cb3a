package discovery

import (
	"errors"
	"log/slog"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// A caring is a host in the moment in which it has found something out.
type caring struct {
	*care
	t *testing.T
	c *clientv3.Client
}

// newCaring registers an instance, owns its check, and has found it critical.
func newCaring(t *testing.T) caring {
	t.Helper()
	c := coretest.StartEtcd(t).Client(t)
	s, err := core.NewSession(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	i := Instance{Service: "web", ID: "a", Addr: "h:80", Checks: []HostCheck{{URL: "tcp://"}}}
	if _, err := NewRegistrar(s).Register(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	w := newWard(&rounds{c: c, log: slog.New(slog.DiscardHandler)}, "default")
	ch := &charge{shift: &shift{ward: w, s: s}, key: w.ownerKey(0)}
	it := caring{&care{charge: ch, key: instanceKey("default", "web", "a"), define: checkKey("default", "web", "a")}, t, c}
	ch.rev = it.put(ch.key)
	def := it.get(it.define)
	it.now = patient{service: "web", id: "a", rev: def.ModRevision}
	if !it.now.read(def.Value) {
		t.Fatalf("no definition: %s", def.Value)
	}
	it.found, it.whys, it.dirty = []State{Critical}, []string{"down"}, true
	return it
}

func (it caring) put(key string) (rev int64) {
	it.t.Helper()
	resp, err := it.c.Put(it.t.Context(), key, "{}")
	if err != nil {
		it.t.Fatal(err)
	}
	return resp.Header.Revision
}

func (it caring) get(key string) *mvccpb.KeyValue {
	it.t.Helper()
	resp, err := it.c.Get(it.t.Context(), key)
	if err != nil || len(resp.Kvs) == 0 {
		it.t.Fatalf("%s: %v, %v", key, resp, err)
	}
	return resp.Kvs[0]
}

// said is what the record says.
func (it caring) said() []State {
	r, _ := recordIn(it.get(it.key))
	return r.Health.said()
}

func TestAVerdict(t *testing.T) {
	it := newCaring(t)
	before := it.get(it.key)
	if err := it.settle(t.Context()); err != nil || len(it.said()) != 1 || it.said()[0] != Critical || it.dirty {
		t.Errorf("%v, %v", err, it.said())
	}
	after := it.get(it.key)
	if after.Lease != before.Lease || after.Lease == 0 {
		t.Errorf("lease %x was %x", after.Lease, before.Lease)
	}
	it.dirty = true
	if err := it.settle(t.Context()); err != nil || it.get(it.key).ModRevision != after.ModRevision {
		t.Errorf("said again: %v", err)
	}
}

// Whoever was paused while another host took over writes nothing any more.
func TestAPausedOwnerIsFenced(t *testing.T) {
	for name, harm := range map[string]func(it caring){
		"another owns it":         func(it caring) { it.put(it.charge.key) },
		"another definition":      func(it caring) { it.put(it.define) },
		"nobody owns it any more": func(it caring) { _, _ = it.c.Delete(t.Context(), it.charge.key) },
	} {
		it := newCaring(t)
		harm(it)
		if err := it.settle(t.Context()); !errors.Is(err, errOvertaken) || it.said() != nil || !it.dirty {
			t.Errorf("%s: %v, and the record says %v", name, err, it.said())
		}
	}
}

// After a lost reply a record that says what it should is written all the same: so
// the request that may still come finds another revision.
func TestAfterALostReply(t *testing.T) {
	it := newCaring(t)
	if err := it.settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	rev := it.get(it.key).ModRevision
	it.doubt, it.dirty = rev, true
	if err := it.settle(t.Context()); err != nil || it.get(it.key).ModRevision == rev {
		t.Errorf("the record stands as it stood: %v", err)
	}
}

// Another's registration is none of its business.
func TestNoVerdictOnAnother(t *testing.T) {
	it := newCaring(t)
	it.now.Reg = "another"
	if err := it.settle(t.Context()); err != nil || it.said() != nil || it.dirty {
		t.Errorf("%v, %v", err, it.said())
	}
}
