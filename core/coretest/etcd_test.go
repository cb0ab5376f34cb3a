package coretest_test

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/coretest"
)

func TestStartEtcdServesAMemberOfItsOwn(t *testing.T) {
	own := coretest.StartEtcd(t, coretest.WithFsync())
	if own.Endpoint() == etcd.Endpoint() {
		t.Fatalf("both members on %s", own.Endpoint())
	}
	if _, err := own.Client(t).Put(t.Context(), "own", "v"); err != nil {
		t.Fatal(err)
	}
	if kvs := etcd.Dump(t, "own"); len(kvs) != 0 {
		t.Errorf("the shared member has the other's key: %v", kvs)
	}
}

func TestClientsOfOneMemberSeeOneStore(t *testing.T) {
	a, b, key := etcd.Client(t), etcd.Client(t), etcd.Prefix(t)+"/k"
	if a == b {
		t.Fatal("one client, handed out twice")
	}
	put, err := a.Put(t.Context(), key, "v")
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.Get(t.Context(), key)
	if err != nil || len(got.Kvs) != 1 {
		t.Fatalf("got %v, %v", got, err)
	}
	kvs := etcd.Dump(t, key)
	if len(kvs) != 1 || kvs[0].ModRevision != put.Header.Revision {
		t.Errorf("dump = %v, want revision %d", kvs, put.Header.Revision)
	}
}

func TestCountersSeeOneTransactionAsOne(t *testing.T) {
	own := coretest.StartEtcd(t) // a shared member has other writers
	c := own.Client(t)
	rev, raft := own.Revision(t), own.RaftIndex(t)
	if _, err := c.Txn(t.Context()).Then(clientv3.OpPut("a", "1"), clientv3.OpPut("b", "2")).Commit(); err != nil {
		t.Fatal(err)
	}
	if d := own.Revision(t) - rev; d != 1 {
		t.Errorf("revision grew by %d, want 1", d)
	}
	if d := own.RaftIndex(t) - raft; d < 1 || d > 2 { // the member may record its version in between
		t.Errorf("raft index grew by %d, want 1", d)
	}
	if _, err := c.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if d := own.Revision(t) - rev; d != 1 {
		t.Errorf("a read changed the revision by %d", d-1)
	}
}

func TestExpireLeaseTakesItsKeysAndRefusesItsKeeper(t *testing.T) {
	c, key := etcd.Client(t), etcd.Prefix(t)
	lease, err := c.Grant(t.Context(), 3600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), key, "v", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	coretest.ExpireLease(t, etcd.Client(t), lease.ID)
	if kvs := etcd.Dump(t, key); len(kvs) != 0 {
		t.Errorf("key outlived its lease: %v", kvs)
	}
	if _, err := c.Put(t.Context(), key, "v", clientv3.WithLease(lease.ID)); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("attach to the ended lease: %v", err)
	}
	if _, err := c.KeepAliveOnce(t.Context(), lease.ID); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		t.Errorf("renewal of the ended lease: %v", err)
	}
	coretest.ExpireLease(t, c, lease.ID) // again: no error
}
