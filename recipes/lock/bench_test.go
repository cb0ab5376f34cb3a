package lock_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
)

// The benchmarks compare with etcd's own lock service, v3lock: the same member,
// with fsync, callers with a session each behind as many connections, over gRPC
// on loopback, in turn within one run. They report pairs of lock and unlock a
// second and the ratio of the medians. Run them alone:
//
//	go test -run '^$' -bench . ./recipes/lock
const (
	rounds    = 5
	roundTime = 700 * time.Millisecond
	conns     = 4
	benchTTL  = 600 // seconds; nobody renews
)

// A pair locks and unlocks once.
type pair func(ctx context.Context) error

func lease(b *testing.B, c *clientv3.Client) clientv3.LeaseID {
	resp, err := c.Grant(b.Context(), benchTTL)
	if err != nil {
		b.Fatal(err)
	}
	return resp.ID
}

func v3lockPairs(b *testing.B, e *coretest.Etcd, names func(int) string, n int) (pairs []pair) {
	c := e.Client(b)
	var dialled []*grpc.ClientConn
	for range conns {
		dialled = append(dialled, servicetest.Dial(b, e.Endpoint()[len("http://"):]))
	}
	for i := range n {
		lc, id, name := v3lockpb.NewLockClient(dialled[i%conns]), lease(b, c), []byte("stock/"+names(i))
		pairs = append(pairs, func(ctx context.Context) error {
			resp, err := lc.Lock(ctx, &v3lockpb.LockRequest{Name: name, Lease: int64(id)})
			if err != nil {
				return err
			}
			_, err = lc.Unlock(ctx, &v3lockpb.UnlockRequest{Key: resp.Key})
			return err
		})
	}
	return pairs
}

func ourPairs(b *testing.B, e *coretest.Etcd, names func(int) string, n int) (pairs []pair) {
	direct := e.Member().Direct()
	h := startHostOn(b, scope.Backend{KV: direct.KV, Lease: direct.Lease, Watch: direct.Watch}, nil)
	c := e.Client(b)
	var clients []lockv1.LockServiceClient
	for range conns {
		clients = append(clients, lockv1.NewLockServiceClient(servicetest.Dial(b, h.Addr)))
	}
	for i := range n {
		lc, name := clients[i%conns], names(i)
		who := recipe.Caller{Session: fmt.Sprint(i), Lease: lease(b, c), TTL: benchTTL * time.Second, Owner: fmt.Sprint("caller-", i), Namespace: "default"}
		pairs = append(pairs, func(ctx context.Context) error {
			ctx = metadata.NewOutgoingContext(ctx, who.Metadata())
			resp, err := lc.Acquire(ctx, &lockv1.AcquireRequest{SessionId: who.Session, Name: name})
			if err != nil {
				return err
			}
			_, err = lc.Release(ctx, &lockv1.ReleaseRequest{SessionId: who.Session, Name: name, Token: resp.GetToken()})
			return err
		})
	}
	return pairs
}

// BenchmarkApart gives every caller a name of its own.
func BenchmarkApart(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			compare(b, n, func(i int) string { return fmt.Sprint("apart-", i) })
		})
	}
}

// BenchmarkTogether gives all callers the same name.
func BenchmarkTogether(b *testing.B) {
	for _, n := range []int{16, 256} {
		b.Run(fmt.Sprintf("callers=%d", n), func(b *testing.B) {
			compare(b, n, func(int) string { return "together" })
		})
	}
}

func compare(b *testing.B, n int, names func(int) string) {
	e := coretest.StartEtcd(b, coretest.WithFsync())
	all := [][]pair{v3lockPairs(b, e, names, n), ourPairs(b, e, names, n)}
	rates := make([][]float64, len(all))
	b.ResetTimer()
	for r := range rounds + 1 {
		for k := range all {
			k := (k + r) % len(all)
			if rate := measure(b, all[k]); r > 0 { // the first round warms up
				rates[k] = append(rates[k], rate)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(rates[0]), "v3lock/s")
	b.ReportMetric(median(rates[1]), "conclave/s")
	b.ReportMetric(median(rates[1])/median(rates[0]), "ratio")
}

func measure(b *testing.B, pairs []pair) float64 {
	var count atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	start := time.Now()
	timer := time.AfterFunc(roundTime, func() { stop.Store(true) })
	defer timer.Stop()
	for _, p := range pairs {
		all.Go(func() {
			for !stop.Load() {
				if err := p(b.Context()); err != nil {
					b.Error(err)
					return
				}
				count.Add(1)
			}
		})
	}
	all.Wait()
	return float64(count.Load()) / time.Since(start).Seconds()
}

func median(rates []float64) float64 {
	slices.Sort(rates)
	return rates[len(rates)/2]
}

// BenchmarkMemory reports what the recipe and its host keep in memory for locks
// that are held, each by a session of its own, beside what etcd keeps.
func BenchmarkMemory(b *testing.B) {
	const held = 10_000
	e := coretest.StartEtcd(b)
	c := e.Client(b)
	h := startHost(b, c, nil)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	var all sync.WaitGroup
	next := make(chan int, held)
	for i := range held {
		next <- i
	}
	close(next)
	for range 64 {
		all.Go(func() {
			for i := range next {
				who := recipe.Caller{Session: fmt.Sprint(i), Lease: lease(b, c), TTL: benchTTL * time.Second, Owner: fmt.Sprint("caller-", i), Namespace: "default"}
				_, err := h.Acquire(metadata.NewOutgoingContext(b.Context(), who.Metadata()), &lockv1.AcquireRequest{SessionId: who.Session, Name: fmt.Sprint("held-", i)})
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(heap()-before)/held, "bytes/lock")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutines")
}
