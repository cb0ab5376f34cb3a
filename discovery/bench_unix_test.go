//go:build unix

package discovery_test

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// BenchmarkHeartbeats: the processor time, client and server together, that it
// takes to keep 10,000 instances alive with a TTL of 5 s, beside one etcd lease for
// each.
func BenchmarkHeartbeats(b *testing.B) {
	const instances = 10_000
	const period = 10 * time.Second
	for b.Loop() {
		etcds, ours := keptByEtcd(b, instances, period), keptByUs(b, instances, period)
		b.ReportMetric(100*etcds, "etcd-cpu-%")
		b.ReportMetric(100*ours, "cpu-%")
		b.ReportMetric(etcds/ours, "ratio")
	}
}

// used is the processor time of this process.
func used(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// load is the share of one processor that is used during a period.
func load(b *testing.B, period time.Duration) float64 {
	b.Helper()
	before := used(b)
	<-time.After(period)
	return float64(used(b)-before) / float64(period)
}

func keptByEtcd(b *testing.B, instances int, period time.Duration) float64 {
	b.Helper()
	c := coretest.StartEtcd(b).Client(b)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for range instances {
		slots <- struct{}{}
		wg.Go(func() {
			l := must[*clientv3.LeaseGrantResponse](b)(c.Grant(ctx, 5))
			answers := must[<-chan *clientv3.LeaseKeepAliveResponse](b)(c.KeepAlive(ctx, l.ID))
			<-slots
			for range answers { // else the client warns of a full channel
			}
		})
	}
	for range cap(slots) {
		slots <- struct{}{}
	}
	l := load(b, period)
	cancel()
	wg.Wait()
	return l
}

func keptByUs(b *testing.B, instances int, period time.Duration) float64 {
	b.Helper()
	r := registrarOn(b, sessionOn(b, coretest.StartEtcd(b).Client(b), core.WithTTL(5*time.Second)))
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	for n := range instances {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			registered(b, r, instance("web", n))
		})
	}
	wg.Wait()
	<-time.After(10 * time.Second) // until every key is watched
	return load(b, period)
}
