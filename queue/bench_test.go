package queue_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	recipe "go.etcd.io/etcd/client/v3/experimental/recipes"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/queue"
)

// The benchmarks compare with the Queue of etcd's experimental recipes: on the
// same member, with fsync, over gRPC on loopback, in turn within one run. They
// report medians of rates, and the ratio of the two. Stock deletes an item before
// it is worked on; ours claims and acks it. Run them alone:
//
//	go test -run '^$' -bench . -benchtime 1x ./queue
const rounds = 3

// either is one of the two libraries.
type either interface {
	put(ctx context.Context, v string) error
	take(ctx context.Context) error // and acks
}

type stock struct{ q *recipe.Queue }

func (q stock) put(_ context.Context, v string) error { return q.q.Enqueue(v) }
func (q stock) take(context.Context) error {
	_, err := q.q.Dequeue()
	return err
}

type ours struct{ q *queue.Queue[string] }

func (q ours) put(ctx context.Context, v string) error {
	_, err := q.q.Enqueue(ctx, v)
	return err
}

func (q ours) take(ctx context.Context) error {
	i, err := q.q.Dequeue(ctx)
	if err != nil {
		return err
	}
	return i.Ack(ctx)
}

// side makes a queue of either library on a connection of its own.
func side(b *testing.B, e *coretest.Etcd, name string, conclave bool) either {
	b.Helper()
	if !conclave {
		return stock{recipe.NewQueue(e.Client(b), "/stock/"+name+"/")}
	}
	s, err := core.NewSession(within(b), e.Client(b))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	return ours{queue.New[string](s, name, queue.WithCodec(core.Text{}))}
}

// rate has n goroutines do something until it was done total times, or for a
// time, and returns how often a second it was.
func rate(b *testing.B, n, total int, most time.Duration, do func(ctx context.Context) error) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), most+2*time.Minute)
	defer cancel()
	var left, done atomic.Int64
	left.Store(int64(total))
	began := time.Now()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for left.Add(-1) >= 0 && time.Since(began) < most {
				if err := do(ctx); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// compare runs both sides in turn and reports their medians.
func compare(b *testing.B, run func(b *testing.B, name string, conclave bool) float64) {
	b.Helper()
	rates := map[bool][]float64{}
	for range b.N {
		for r := range rounds {
			for _, conclave := range []bool{false, true} {
				rates[conclave] = append(rates[conclave], run(b, fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(b.Name(), "/", "-"), b.N, r), conclave))
			}
		}
	}
	theirs, our := median(rates[false]), median(rates[true])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(theirs, "stock/s")
	b.ReportMetric(our, "ours/s")
	b.ReportMetric(our/theirs, "ratio")
}

const payload = "a payload of some forty bytes, as jobs have"

func BenchmarkEnqueue(b *testing.B) {
	for _, producers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("producers=%d", producers), func(b *testing.B) {
			e := coretest.StartEtcd(b, coretest.WithFsync())
			compare(b, func(b *testing.B, name string, conclave bool) float64 {
				q := side(b, e, name, conclave)
				return rate(b, producers, 1<<30, 2*time.Second, func(ctx context.Context) error { return q.put(ctx, payload) })
			})
		})
	}
}

// BenchmarkDequeue drains a backlog: claims and acks, or deletes.
func BenchmarkDequeue(b *testing.B) {
	for _, backlog := range []int{1000, 10_000} {
		for _, consumers := range []int{1, 16} {
			b.Run(fmt.Sprintf("backlog=%d/consumers=%d", backlog, consumers), func(b *testing.B) {
				e := coretest.StartEtcd(b, coretest.WithFsync())
				compare(b, func(b *testing.B, name string, conclave bool) float64 {
					q := side(b, e, name, conclave)
					fillUp(b, q, backlog)
					return rate(b, consumers, backlog, 5*time.Second, q.take)
				})
			})
		}
	}
}

// BenchmarkDequeueBatch drains a backlog by consumers who take up to some items at
// a time and ack them together. The stock queue gives one at a time.
func BenchmarkDequeueBatch(b *testing.B) {
	for _, backlog := range []int{1000, 10_000} {
		for _, batch := range []int{16, 48} {
			b.Run(fmt.Sprintf("backlog=%d/batch=%d/consumers=16", backlog, batch), func(b *testing.B) {
				e := coretest.StartEtcd(b, coretest.WithFsync())
				compare(b, func(b *testing.B, name string, conclave bool) float64 {
					q := side(b, e, name, conclave)
					fillUp(b, q, backlog)
					if conclave {
						return drain(b, q.(ours).q, 16, batch, backlog)
					}
					return rate(b, 16, backlog, 5*time.Second, q.take)
				})
			})
		}
	}
}

// drain has consumers take and ack items in batches until all are acked.
func drain(b *testing.B, q *queue.Queue[string], consumers, batch, backlog int) float64 {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var left atomic.Int64
	left.Store(int64(backlog))
	began := time.Now()
	var all sync.WaitGroup
	for range consumers {
		all.Go(func() {
			for left.Load() > 0 {
				items, err := q.DequeueBatch(ctx, batch)
				if err != nil && left.Load() <= 0 {
					return // the others have acked the last ones
				}
				if err == nil {
					err = queue.AckAll(ctx, items)
				}
				if err != nil {
					b.Error(err)
					return
				}
				if left.Add(-int64(len(items))) <= 0 {
					cancel()
				}
			}
		})
	}
	all.Wait()
	return float64(backlog) / time.Since(began).Seconds()
}

func fillUp(b *testing.B, q either, n int) {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range 256 {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if err := q.put(context.Background(), payload); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkOneAtATime puts an item when an idle consumer, on another connection,
// has taken the one before.
func BenchmarkOneAtATime(b *testing.B) {
	e := coretest.StartEtcd(b, coretest.WithFsync())
	compare(b, func(b *testing.B, name string, conclave bool) float64 {
		producer, consumer := side(b, e, name, conclave), side(b, e, name, conclave)
		taken := make(chan error, 1)
		const n = 30
		go func() {
			for range n {
				taken <- consumer.take(context.Background())
			}
		}()
		began := time.Now()
		for range n {
			if err := producer.put(context.Background(), payload); err != nil {
				b.Fatal(err)
			}
			if err := <-taken; err != nil {
				b.Fatal(err)
			}
		}
		return n / time.Since(began).Seconds()
	})
}

// BenchmarkBacklog shows what a backlog costs: the rates of put and of claim+ack
// with 16 goroutines each, over backlogs of 1,000 to CONCLAVE_BACKLOG items
// (100,000 unless it is set).
func BenchmarkBacklog(b *testing.B) {
	most := 100_000
	if n, err := strconv.Atoi(os.Getenv("CONCLAVE_BACKLOG")); err == nil {
		most = n
	}
	for range b.N {
		e := coretest.StartEtcd(b, coretest.WithFsync())
		q := side(b, e, "backlog", true)
		have := 0
		for _, backlog := range []int{1000, 10_000, 100_000, 1_000_000} {
			if backlog > most {
				break
			}
			began := time.Now()
			fillUp(b, q, backlog-have)
			if filled := backlog - have; backlog >= 100_000 {
				b.ReportMetric(float64(filled)/time.Since(began).Seconds(), fmt.Sprintf("fill-%d/s", backlog))
			}
			puts := rate(b, 16, 2000, time.Minute, func(ctx context.Context) error { return q.put(ctx, payload) })
			takes := rate(b, 16, 2000, time.Minute, q.take)
			b.ReportMetric(puts, fmt.Sprintf("put-%d/s", backlog))
			b.ReportMetric(takes, fmt.Sprintf("take-%d/s", backlog))
			fmt.Printf("backlog %d: filled in %v, put %.0f/s, take %.0f/s\n", backlog, time.Since(began), puts, takes) // it takes minutes
			have = backlog
		}
		drained := rate(b, 256, have, drainFor(b), q.take)
		b.ReportMetric(drained, "drain/s")
		fmt.Printf("drained %d at %.0f/s\n", have, drained)
		report(b, e)
	}
}

// drainFor bounds the last part of the benchmark: CONCLAVE_DRAIN, or 20 min.
func drainFor(b *testing.B) time.Duration {
	b.Helper()
	d, err := time.ParseDuration(cmp.Or(os.Getenv("CONCLAVE_DRAIN"), "20m"))
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// report tells the size of the database and of the process after compaction.
func report(b *testing.B, e *coretest.Etcd) {
	b.Helper()
	c := e.Client(b)
	before, err := c.Status(within(b), e.Endpoint())
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // a million items take more than one
	defer cancel()
	if _, err := c.Compact(ctx, e.Revision(b), clientv3.WithCompactPhysical()); err != nil {
		b.Fatal(err)
	}
	after, err := c.Status(within(b), e.Endpoint())
	if err != nil {
		b.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.ReportMetric(float64(before.DbSize>>20), "db-MiB")
	b.ReportMetric(float64(after.DbSizeInUse>>20), "db-in-use-MiB")
	b.ReportMetric(float64(m.Sys>>20), "process-MiB")
}
