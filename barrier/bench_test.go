package barrier_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// The benchmarks compare with etcd's own experimental recipes: on the same member,
// with fsync, over gRPC on loopback, each member with a connection and a lease of
// its own, in turn within one run. What they report is rounds a second, and the
// ratio of the medians. Run them alone:
//
//	go test -run '^$' -bench . ./barrier
const (
	rounds    = 3
	roundTime = 700 * time.Millisecond
)

// A contestant makes n members; a member takes part in one round a call.
type contestant struct {
	name    string
	members func(b *testing.B, e *coretest.Etcd, name string, n int) []func(ctx context.Context) error
}

// ratePer runs all members in step for a while, and returns rounds a second.
func ratePer(b *testing.B, members []func(context.Context) error) float64 {
	b.Helper()
	began, n := time.Now(), 0
	for time.Since(began) < roundTime {
		var wg sync.WaitGroup
		for _, f := range members {
			wg.Go(func() {
				if err := f(within(b)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		if b.Failed() {
			b.FailNow()
		}
		n++
	}
	return float64(n) / time.Since(began).Seconds()
}

// compare reports the median rates of all contestants, and their ratio to the first.
func compare(b *testing.B, n int, all ...contestant) {
	e := coretest.StartEtcd(b, coretest.WithFsync())
	members := make([][]func(context.Context) error, len(all))
	for i, c := range all {
		members[i] = c.members(b, e, fmt.Sprintf("bench-%d-%d", i, n), n)
	}
	for b.Loop() {
		rates := make([][]float64, len(all))
		for range rounds {
			for i := range all {
				rates[i] = append(rates[i], ratePer(b, members[i]))
			}
		}
		medians := make([]float64, len(all))
		for i, r := range rates {
			slices.Sort(r)
			medians[i] = r[len(r)/2]
			b.ReportMetric(medians[i], all[i].name+"/s")
			if i > 0 {
				b.ReportMetric(medians[i]/medians[0], all[i].name+"/"+all[0].name)
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}

func benchSession(b *testing.B, e *coretest.Etcd) *core.Session {
	return sessionOn(b, e, core.WithTTL(time.Minute))
}

func stockSession(b *testing.B, c *clientv3.Client) *concurrency.Session {
	s := must[*concurrency.Session](b)(concurrency.NewSession(c, concurrency.WithTTL(60)))
	b.Cleanup(func() { _ = s.Close() })
	return s
}

// times makes n members by f.
func times(n int, f func() func(context.Context) error) []func(context.Context) error {
	var all []func(context.Context) error
	for range n {
		all = append(all, f())
	}
	return all
}

// stockDouble makes its barrier anew for each round: with one that is used again
// its members do not come together (the key that says that all are there is left
// from the round before).
func stockDouble(b *testing.B, e *coretest.Etcd, name string, n int) []func(context.Context) error {
	return times(n, func() func(context.Context) error {
		s, round := stockSession(b, e.Client(b)), 0
		return func(context.Context) error {
			round++
			d := recipe.NewDoubleBarrier(s, fmt.Sprintf("%s/%d", name, round), n)
			if err := d.Enter(); err != nil {
				return err
			}
			return d.Leave()
		}
	})
}

func ourDouble(b *testing.B, e *coretest.Etcd, name string, n int) []func(context.Context) error {
	return times(n, func() func(context.Context) error {
		d := barrier.NewDouble(benchSession(b, e), name, n)
		return func(ctx context.Context) error {
			entry, err := d.Enter(ctx)
			if err != nil {
				return err
			}
			return entry.Leave(ctx)
		}
	})
}

func ourCyclic(b *testing.B, e *coretest.Etcd, name string, n int) []func(context.Context) error {
	return times(n, func() func(context.Context) error {
		c := barrier.NewCyclic(benchSession(b, e), name, n)
		return func(ctx context.Context) error {
			_, err := c.Await(ctx)
			return err
		}
	})
}

// BenchmarkDouble is a round of entering and leaving.
func BenchmarkDouble(b *testing.B) {
	for _, n := range []int{2, 10, 50} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			compare(b, n, contestant{"etcd", stockDouble}, contestant{"double", ourDouble}, contestant{"cyclic", ourCyclic})
		})
	}
}

// BenchmarkRelease is a barrier that one member holds and lets go, while the others
// wait.
func BenchmarkRelease(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			compare(b, n, contestant{"etcd", stockRelease}, contestant{"barrier", ourRelease})
		})
	}
}

func stockRelease(b *testing.B, e *coretest.Etcd, name string, n int) []func(context.Context) error {
	holder := e.Client(b)
	waiters := times(n, func() func(context.Context) error {
		w := recipe.NewBarrier(e.Client(b), name)
		return func(context.Context) error { return w.Wait() }
	})
	return []func(context.Context) error{func(ctx context.Context) error {
		h := recipe.NewBarrier(holder, name)
		if err := h.Hold(); err != nil {
			return err
		}
		return releaseAmong(ctx, waiters, h.Release)
	}}
}

func ourRelease(b *testing.B, e *coretest.Etcd, name string, n int) []func(context.Context) error {
	holder := barrier.New(benchSession(b, e), name)
	waiters := times(n, func() func(context.Context) error { return barrier.New(benchSession(b, e), name).Wait })
	return []func(context.Context) error{func(ctx context.Context) error {
		h, err := holder.Hold(ctx)
		if err != nil {
			return err
		}
		return releaseAmong(ctx, waiters, h.Release)
	}}
}

// releaseAmong lets all wait, and releases.
func releaseAmong(ctx context.Context, waiters []func(context.Context) error, release func() error) error {
	errs := make(chan error, len(waiters))
	for _, w := range waiters {
		go func() { errs <- w(ctx) }()
	}
	err := release()
	for range waiters {
		if e := <-errs; err == nil {
			err = e
		}
	}
	return err
}
