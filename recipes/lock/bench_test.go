package lock_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/coretest"
	corehost "github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/pipeline"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
	lockrecipe "github.com/conclavehq/conclave/recipes/lock"
)

// The benchmarks compare with etcd's own lock service, v3lock: the same member,
// with fsync, callers with a session each behind as many connections, over gRPC
// on loopback, in turn within one run; through the host with a gRPC call each, and
// with a pipeline on each connection. They report pairs of lock and unlock a
// second, the processor time of a pair on all sides together, and the ratios of the
// medians. Run them alone:
//
//	go test -run '^$' -bench . ./recipes/lock
const (
	rounds    = 30 // short ones in turn, since machines become faster and slower
	roundTime = 200 * time.Millisecond
	conns     = 4
	benchTTL  = 600 // seconds; nobody renews
)

// A pair locks and unlocks once.
type pair func(ctx context.Context) error

// A contestant is what many callers do.
type contestant struct {
	name  string
	pairs []pair
}

func lease(b *testing.B, c *clientv3.Client) clientv3.LeaseID {
	resp, err := c.Grant(b.Context(), benchTTL)
	if err != nil {
		b.Fatal(err)
	}
	return resp.ID
}

// benchHost starts a host with a member that writes to disk as in production.
func benchHost(b *testing.B) *corehost.Host {
	b.Helper()
	h, err := corehost.New(corehost.Config{
		DataDir: b.TempDir(), API: corehost.API{Listen: "127.0.0.1:0"},
		Etcd: corehost.Etcd{ListenClient: "127.0.0.1:0", ListenPeer: "127.0.0.1:0", Fast: true},
	}, corehost.WithRecipe(lockrecipe.Recipe{}))
	if err != nil {
		b.Fatal(err)
	}
	if err := h.Start(testContext(b)); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := h.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	})
	return h
}

func v3lockPairs(b *testing.B, h *corehost.Host, names func(int) string, n int) (pairs []pair) {
	c, err := clientv3.New(clientv3.Config{Endpoints: h.Etcd()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	var dialled []*grpc.ClientConn
	for range conns {
		dialled = append(dialled, servicetest.Dial(b, strings.TrimPrefix(h.Etcd()[0], "http://")))
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

// ourPairs are those of the LockService, on connections as wrap makes them.
func ourPairs(b *testing.B, h *corehost.Host, names func(int) string, n int, wrap func(*grpc.ClientConn) grpc.ClientConnInterface) (pairs []pair) {
	var dialled []grpc.ClientConnInterface
	for range conns {
		dialled = append(dialled, wrap(servicetest.Dial(b, strings.TrimPrefix(h.API(), "http://"))))
	}
	for i := range n {
		lc, name := lockv1.NewLockServiceClient(dialled[i%conns]), names(i)
		opened, err := sessionv1.NewSessionServiceClient(dialled[i%conns]).Open(b.Context(), &sessionv1.OpenRequest{Ttl: durationpb.New(benchTTL * time.Second)})
		if err != nil {
			b.Fatal(err)
		}
		id := opened.GetSessionId()
		pairs = append(pairs, func(ctx context.Context) error {
			resp, err := lc.Acquire(ctx, &lockv1.AcquireRequest{SessionId: id, Name: name})
			if err != nil {
				return err
			}
			_, err = lc.Release(ctx, &lockv1.ReleaseRequest{SessionId: id, Name: name, Token: resp.GetToken()})
			return err
		})
	}
	return pairs
}

func alone(c *grpc.ClientConn) grpc.ClientConnInterface { return c }

// piped returns a wrapper that lets calls share a stream.
func piped(b *testing.B) func(*grpc.ClientConn) grpc.ClientConnInterface {
	return func(c *grpc.ClientConn) grpc.ClientConnInterface {
		p := pipeline.New(c)
		if err := p.Ready(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = p.Close() })
		return p
	}
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
	h := benchHost(b)
	all := []contestant{
		{"v3lock", v3lockPairs(b, h, names, n)},
		{"unary", ourPairs(b, h, names, n, alone)},
		{"piped", ourPairs(b, h, names, n, piped(b))},
	}
	rates, costs := make([][]float64, len(all)), make([][]float64, len(all))
	b.ResetTimer()
	for r := range rounds + 1 {
		for k := range all {
			k := (k + r) % len(all)
			if rate, cost := measure(b, all[k].pairs); r > 0 { // the first round warms up
				rates[k], costs[k] = append(rates[k], rate), append(costs[k], cost)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	for k, c := range all {
		b.ReportMetric(median(rates[k]), c.name+"/s")
		b.ReportMetric(median(costs[k]), c.name+"-cpu-µs")
		if k > 0 {
			b.ReportMetric(median(rates[k])/median(rates[0]), c.name+"-ratio")
		}
	}
}

// measure returns pairs a second, and the processor time of one in microseconds.
func measure(b *testing.B, pairs []pair) (rate, cost float64) {
	var count atomic.Int64
	var stop atomic.Bool
	var all sync.WaitGroup
	start, used := time.Now(), cpuTime()
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
	n := float64(count.Load())
	return n / time.Since(start).Seconds(), float64((cpuTime() - used).Microseconds()) / n
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
