package discovery_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
)

// The benchmarks compare with what etcd's client has for the same job: on the same
// member, with fsync, over gRPC on loopback, in turn within one run. What they
// report are medians, and the ratio. Absolute figures are the machine's; ratios
// hold better. Run them alone:
//
//	go test -run '^$' -bench . -benchtime 1x ./discovery
const (
	benchRounds = 5
	benchFor    = 500 * time.Millisecond
)

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// rate runs f in so many goroutines for a while, and returns calls a second.
func rate(b *testing.B, goroutines int, f func(worker, turn int)) float64 {
	b.Helper()
	var n atomic.Int64
	var wg sync.WaitGroup
	stop := time.Now().Add(benchFor)
	for w := range goroutines {
		wg.Go(func() {
			for turn := 0; time.Now().Before(stop); turn++ {
				f(w, turn)
				n.Add(1)
			}
		})
	}
	began := stop.Add(-benchFor)
	wg.Wait()
	return float64(n.Load()) / time.Since(began).Seconds()
}

// BenchmarkResolve: what it costs to learn the addresses of a service with 5
// instances.
func BenchmarkResolve(b *testing.B) {
	e := coretest.StartEtcd(b, coretest.WithFsync())
	c := e.Client(b)
	s := sessionOn(b, c, core.WithTTL(time.Minute))
	reg := registrarOn(b, s, discovery.WithNaming("naming/"))
	for n := range 5 {
		registered(b, reg, instance("web", n))
	}
	r := resolverOn(b, c)
	resolved(b, r, "web")
	m := must[endpoints.Manager](b)(endpoints.NewManager(c, "naming/web"))
	ctx := b.Context()
	var list, get, ours []float64
	for b.Loop() {
		for range benchRounds {
			list = append(list, rate(b, 1, func(int, int) { must[endpoints.Key2EndpointMap](b)(m.List(ctx)) }))
			get = append(get, rate(b, 1, func(int, int) { must[*clientv3.GetResponse](b)(c.Get(ctx, keyOf("web", ""), clientv3.WithPrefix())) }))
			ours = append(ours, 1000*rate(b, 1, func(int, int) {
				for range 1000 {
					_, _ = r.Resolve(ctx, "web")
				}
			}))
		}
	}
	b.ReportMetric(median(list), "naming/s")
	b.ReportMetric(median(get), "get/s")
	b.ReportMetric(median(ours), "resolve/s")
	b.ReportMetric(median(ours)/median(list), "ratio-naming")
	b.ReportMetric(median(ours)/median(get), "ratio-get")
}

// BenchmarkRegister: pairs of registration and deregistration by 16 goroutines,
// beside a lease granted, a key put and the lease revoked.
func BenchmarkRegister(b *testing.B) {
	e := coretest.StartEtcd(b, coretest.WithFsync())
	c := e.Client(b)
	reg := registrarOn(b, sessionOn(b, e.Client(b), core.WithTTL(time.Minute)))
	ctx := b.Context()
	var naive, ours []float64
	for b.Loop() {
		for range benchRounds {
			naive = append(naive, rate(b, 16, func(w, _ int) {
				l := must[*clientv3.LeaseGrantResponse](b)(c.Grant(ctx, 60))
				must[*clientv3.PutResponse](b)(c.Put(ctx, fmt.Sprint("naive/", w), "10.0.0.1:80", clientv3.WithLease(l.ID)))
				must[*clientv3.LeaseRevokeResponse](b)(c.Revoke(ctx, l.ID))
			}))
			ours = append(ours, rate(b, 16, func(w, _ int) {
				if err := registered(b, reg, instance("web", w)).Deregister(); err != nil {
					b.Error(err)
				}
			}))
		}
	}
	b.ReportMetric(median(naive), "etcd-pairs/s")
	b.ReportMetric(median(ours), "pairs/s")
	b.ReportMetric(median(ours)/median(naive), "ratio")
}

// BenchmarkWatch: one change of a service to 10,000 loops of one process, beside
// 10,000 etcd watches.
func BenchmarkWatch(b *testing.B) {
	const watchers = 10_000
	e := coretest.StartEtcd(b, coretest.WithFsync())
	c := e.Client(b)
	r := resolverOn(b, e.Client(b))
	reg := registrarOn(b, sessionOn(b, e.Client(b), core.WithTTL(time.Minute)))
	g := registered(b, reg, instance("web", 1))
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var ours, theirs fan
	var wg, ready sync.WaitGroup
	for range watchers {
		ready.Add(2)
		wg.Go(func() {
			first := true
			for s, err := range r.Watch(ctx, "web") {
				if err != nil {
					return
				}
				if first {
					first = false
					ready.Done()
				}
				ours.saw(s.Instances[0].Version)
			}
		})
		wg.Go(func() {
			w := c.Watch(ctx, "bare", clientv3.WithCreatedNotify())
			<-w
			ready.Done()
			for resp := range w {
				for _, ev := range resp.Events {
					theirs.saw(string(ev.Kv.Value))
				}
			}
		})
	}
	ready.Wait()
	var mine, bare []float64
	for b.Loop() {
		for n := range benchRounds * 4 {
			v := fmt.Sprint(n + 1)
			mine = append(mine, ours.fanOut(watchers, v, func() {
				i := instance("web", 1)
				i.Version = v
				if err := g.Update(ctx, i); err != nil {
					b.Error(err)
				}
			}))
			bare = append(bare, theirs.fanOut(watchers, v, func() { must[*clientv3.PutResponse](b)(c.Put(ctx, "bare", v)) }))
		}
	}
	cancel()
	wg.Wait()
	b.ReportMetric(watchers/median(bare), "etcd-notifications/s")
	b.ReportMetric(watchers/median(mine), "notifications/s")
	b.ReportMetric(median(bare)/median(mine), "ratio")
	b.ReportMetric(1000*mine[len(mine)*99/100], "p99-ms")
	b.ReportMetric(1000*bare[len(bare)*99/100], "etcd-p99-ms")
}

// A fan counts how many have seen a version.
type fan struct {
	left atomic.Int64
	want atomic.Pointer[string]
	all  atomic.Pointer[chan struct{}]
}

func (f *fan) saw(v string) {
	if want := f.want.Load(); want != nil && *want == v && f.left.Add(-1) == 0 {
		close(*f.all.Load())
	}
}

// fanOut returns the seconds until all have seen what change does.
func (f *fan) fanOut(watchers int, v string, change func()) float64 {
	all := make(chan struct{})
	f.all.Store(&all)
	f.left.Store(int64(watchers))
	f.want.Store(&v)
	began := time.Now()
	change()
	<-all
	return time.Since(began).Seconds()
}
