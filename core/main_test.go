package core_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = 30 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func open(t testing.TB, c *clientv3.Client, opts ...core.SessionOption) *core.Session {
	t.Helper()
	s, err := core.NewSession(within(t), c, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// put writes a key on a session's lease.
func put(t testing.TB, c *clientv3.Client, key string, lease clientv3.LeaseID) {
	t.Helper()
	if _, err := c.Put(within(t), key, "v", clientv3.WithLease(lease)); err != nil {
		t.Fatal(err)
	}
}

// leaseTTL asks etcd: -1 if the lease is gone.
func leaseTTL(t testing.TB, id clientv3.LeaseID) (left, granted int64) {
	t.Helper()
	resp, err := etcd.Client(t).TimeToLive(within(t), id)
	if err != nil {
		t.Fatal(err)
	}
	return resp.TTL, resp.GrantedTTL
}

// ended waits until ctx ends, and returns its cause.
func ended(t testing.TB, ctx context.Context) error {
	t.Helper()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-within(t).Done():
		t.Fatal("the context did not end")
		return nil
	}
}
