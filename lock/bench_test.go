package lock_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// The benchmarks compare with etcd's own concurrency.Mutex: on the same member,
// with fsync, over gRPC on loopback, in turn within one run. What they report
// is pairs of lock and unlock a second, and the ratio of the medians. Absolute
// figures are the machine's; ratios hold better. Run them alone:
//
//	go test -run '^$' -bench . ./lock
const (
	rounds    = 5
	roundTime = 700 * time.Millisecond
)

// A contestant makes n workers; a worker locks and unlocks once a call.
type contestant struct {
	name    string
	workers func(b *testing.B, c *bench, n int) []func(ctx context.Context) error
}

// A bench is one member with fsync, and what closes with it.
type bench struct{ etcd *coretest.Etcd }

func newBench(b *testing.B) *bench {
	return &bench{coretest.StartEtcd(b, coretest.WithFsync())}
}

func (c *bench) session(b *testing.B, client *clientv3.Client) *core.Session {
	s := must[*core.Session](b)(core.NewSession(b.Context(), client, core.WithTTL(time.Minute)))
	b.Cleanup(func() { _ = s.Close() })
	return s
}

func (c *bench) stockSession(b *testing.B, client *clientv3.Client) *concurrency.Session {
	s := must[*concurrency.Session](b)(concurrency.NewSession(client, concurrency.WithTTL(60)))
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// stockPair and ourPair are one lock and unlock.
func stockPair(m *concurrency.Mutex) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := m.Lock(ctx); err != nil {
			return err
		}
		return m.Unlock(ctx)
	}
}

func ourPair(m *lock.Mutex) func(context.Context) error {
	return func(ctx context.Context) error {
		h, err := m.Lock(ctx)
		if err != nil {
			return err
		}
		return h.Unlock()
	}
}

// sharedSession gives each of n workers a name of its own on one session, or
// all of them the same name.
func stockShared(name func(i int) string) func(*testing.B, *bench, int) []func(context.Context) error {
	return func(b *testing.B, c *bench, n int) (w []func(context.Context) error) {
		s := c.stockSession(b, c.etcd.Client(b))
		for i := range n {
			w = append(w, stockPair(concurrency.NewMutex(s, name(i))))
		}
		return w
	}
}

func oursShared(name func(i int) string, opts ...lock.Option) func(*testing.B, *bench, int) []func(context.Context) error {
	return func(b *testing.B, c *bench, n int) (w []func(context.Context) error) {
		s := c.session(b, c.etcd.Client(b))
		for i := range n {
			w = append(w, ourPair(lock.NewMutex(s, name(i), opts...)))
		}
		return w
	}
}

// Apart gives every worker a connection and a session of its own, and all the
// same name.
func stockApart(b *testing.B, c *bench, n int) (w []func(context.Context) error) {
	for range n {
		w = append(w, stockPair(concurrency.NewMutex(c.stockSession(b, c.etcd.Client(b)), "stock-apart")))
	}
	return w
}

func oursApart(b *testing.B, c *bench, n int) (w []func(context.Context) error) {
	for range n {
		w = append(w, ourPair(lock.NewMutex(c.session(b, c.etcd.Client(b)), "ours-apart")))
	}
	return w
}

func distinct(prefix string) func(int) string {
	return func(i int) string { return fmt.Sprintf("%s-%d", prefix, i) }
}

func same(name string) func(int) string { return func(int) string { return name } }

func BenchmarkUncontended(b *testing.B) {
	for _, n := range []int{1, 16, 256, 1024} {
		b.Run(fmt.Sprintf("goroutines=%d", n), func(b *testing.B) {
			compare(b, n,
				contestant{"stock", stockShared(distinct("stock"))},
				contestant{"sync", oursShared(distinct("sync"))},
				contestant{"deferred", oursShared(distinct("deferred"), lock.WithDeferredRelease())})
		})
	}
}

// BenchmarkHandover is one name among sessions on connections of their own.
func BenchmarkHandover(b *testing.B) {
	for _, n := range []int{2, 16, 64, 256} {
		b.Run(fmt.Sprintf("sessions=%d", n), func(b *testing.B) {
			compare(b, n, contestant{"stock", stockApart}, contestant{"handover", oursApart})
		})
	}
}

// BenchmarkLocalHandover is one name among the goroutines of one session. The
// stock mutex excludes sessions only, so its workers have one each.
func BenchmarkLocalHandover(b *testing.B) {
	b.Run("goroutines=16", func(b *testing.B) {
		compare(b, 16,
			contestant{"stock", stockApart},
			contestant{"commit-each", oursShared(same("commit-each"))},
			contestant{"local", oursShared(same("local"), lock.WithLocalHandover(64, time.Second))})
	})
}

// compare runs the contestants in turn, and reports medians and their ratio to
// the first one.
func compare(b *testing.B, n int, all ...contestant) {
	c := newBench(b)
	workers := make([][]func(context.Context) error, len(all))
	for i, who := range all {
		workers[i] = who.workers(b, c, n)
	}
	rates := make([][]float64, len(all))
	b.ResetTimer()
	for r := range rounds + 1 {
		for i := range all {
			i := (i + r) % len(all)
			rate := measure(b, workers[i])
			if r > 0 { // the first round warms up
				rates[i] = append(rates[i], rate)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
	base := median(rates[0])
	for i, who := range all {
		m := median(rates[i])
		b.ReportMetric(m, who.name+"/s")
		if i > 0 {
			b.ReportMetric(m/base, who.name+"-ratio")
		}
	}
}

func measure(b *testing.B, workers []func(context.Context) error) float64 {
	var pairs atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	start := time.Now()
	timer := time.AfterFunc(roundTime, func() { stop.Store(true) })
	defer timer.Stop()
	for _, w := range workers {
		wg.Go(func() {
			for !stop.Load() {
				if err := w(b.Context()); err != nil {
					b.Error(err)
					return
				}
				pairs.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(pairs.Load()) / time.Since(start).Seconds()
}

func median(rates []float64) float64 {
	slices.Sort(rates)
	return rates[len(rates)/2]
}
