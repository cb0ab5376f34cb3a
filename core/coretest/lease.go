package coretest

import (
	"errors"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ExpireLease makes the server end a lease now, as its expiry would, and returns when the lease and every key on it are gone. Whoever
// keeps the lease alive learns it with the next renewal, a third of the lease's time later at most. A lease that has ended already is no error.
func ExpireLease(tb testing.TB, client *clientv3.Client, id clientv3.LeaseID) {
	tb.Helper()
	ctx, cancel := wait()
	defer cancel()
	if _, err := client.Revoke(ctx, id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
		tb.Fatalf("coretest: expire lease %x: %v", id, err)
	}
	got, err := client.TimeToLive(ctx, id)
	if err != nil {
		tb.Fatalf("coretest: expire lease %x: %v", id, err)
	}
	if got.TTL > 0 {
		tb.Fatalf("coretest: lease %x still has %d s after its revocation", id, got.TTL)
	}
}
