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

func TestMain(m *testing.M) { coretest.Main(m, &etcd, coretest.WithChildren(children())) }

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = 30 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func open(tb testing.TB, c *clientv3.Client, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	s, err := core.NewSession(within(tb), c, opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// put writes a key on a session's lease.
func put(tb testing.TB, c *clientv3.Client, key string, lease clientv3.LeaseID) {
	tb.Helper()
	if _, err := c.Put(within(tb), key, "v", clientv3.WithLease(lease)); err != nil {
		tb.Fatal(err)
	}
}

// leaseTTL asks etcd: -1 if the lease is gone.
func leaseTTL(tb testing.TB, id clientv3.LeaseID) (left, granted int64) {
	tb.Helper()
	resp, err := etcd.Client(tb).TimeToLive(within(tb), id)
	if err != nil {
		tb.Fatal(err)
	}
	return resp.TTL, resp.GrantedTTL
}

// ended waits until ctx ends, and returns its cause.
func ended(tb testing.TB, ctx context.Context) error {
	tb.Helper()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-within(tb).Done():
		tb.Fatal("the context did not end")
		return nil
	}
}
