package scope_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/scope"
)

// BenchmarkTxn compares the transactions of a lock and an unlock through a space
// with the same ones without it, by turns in one run. x/bare is the ratio.
func BenchmarkTxn(b *testing.B) {
	direct, conn := etcd.Member().DirectClient(), etcd.Client(b)
	b.Cleanup(func() { _ = direct.Close() })
	for _, c := range []struct {
		name string
		bare *clientv3.Client
		back scope.Backend
	}{
		{"direct", direct, scope.Backend(etcd.Member().Direct())},
		{"connection", conn, scope.FromClient(conn)},
	} {
		b.Run(c.name, func(b *testing.B) {
			guarded := newSpace(b, c.back, "lock").Client()
			ctx := within(b)
			pair(b, ctx, c.bare) // and whatever is done once
			pair(b, ctx, guarded)
			var bare, checked time.Duration
			b.ReportAllocs()
			for first := true; b.Loop(); first = !first { // who goes second finds warm caches
				if first {
					bare += pair(b, ctx, c.bare)
				}
				checked += pair(b, ctx, guarded)
				if !first {
					bare += pair(b, ctx, c.bare)
				}
			}
			b.ReportMetric(float64(checked)/float64(bare), "x/bare")
			b.ReportMetric(float64(checked.Microseconds())/float64(b.N)/2, "µs/txn")
			b.ReportMetric(0, "ns/op") // of both together it says nothing
		})
	}
}

// pair takes a lock and releases it, and returns how long that took.
func pair(b *testing.B, ctx context.Context, c *clientv3.Client) time.Duration {
	b.Helper()
	const p = "/conclave/default/lock/bench/"
	begun := time.Now()
	for _, op := range []clientv3.Op{clientv3.OpPut(p+"grant", "value"), clientv3.OpDelete(p + "grant")} {
		free := clientv3.Compare(clientv3.CreateRevision(p+"line/"), "=", 0).WithRange(keyspace.End(p + "line/"))
		if _, err := c.Txn(ctx).If(free).Then(op, clientv3.OpGet(p+"grant")).Else(clientv3.OpGet(p, clientv3.WithPrefix())).Commit(); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begun)
}
