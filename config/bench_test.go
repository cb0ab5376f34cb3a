package config_test

import (
	"fmt"
	"sync"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/config"
)

func BenchmarkLatest(b *testing.B) {
	v := opened(b, etcd.Client(b), key(b), config.WithDefault(limits{Rate: 1}))
	b.ReportAllocs()
	for b.Loop() {
		if v.Latest().Value.Rate != 1 {
			b.Fatal("no value")
		}
	}
}

// BenchmarkGet is a bare read of etcd, beside BenchmarkLatest.
func BenchmarkGet(b *testing.B) {
	c, k := etcd.Client(b), key(b)
	put(b, k, `{"rate":1}`)
	for b.Loop() {
		if _, err := c.Get(b.Context(), k); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSet(b *testing.B) {
	v := opened(b, etcd.Client(b), key(b), config.WithDefault(limits{Rate: 1}))
	for b.Loop() {
		if _, err := v.Set(b.Context(), limits{Rate: 2}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChange tells one change to all watchers of a process. An operation is
// one change that all have seen.
func BenchmarkChange(b *testing.B) {
	for _, watchers := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			v := opened(b, etcd.Client(b), key(b), config.WithDefault(limits{Rate: 1}))
			saw := make(chan struct{}, watchers)
			var all sync.WaitGroup
			for range watchers {
				all.Go(func() {
					last := int64(-1)
					for s, err := range v.Watch(b.Context()) {
						if err != nil {
							return
						}
						if s.Number != last {
							last = s.Number
							saw <- struct{}{}
						}
					}
				})
			}
			drain(saw, watchers)
			for b.Loop() {
				if _, err := v.Set(b.Context(), limits{Rate: 2}); err != nil {
					b.Fatal(err)
				}
				drain(saw, watchers)
			}
			b.ReportMetric(float64(watchers)*float64(b.N)/b.Elapsed().Seconds(), "notifications/s")
			if err := v.Close(); err != nil {
				b.Fatal(err)
			}
			all.Wait()
		})
	}
}

// BenchmarkChangeOfBareWatches is the same with a watch of etcd's for each.
func BenchmarkChangeOfBareWatches(b *testing.B) {
	for _, watchers := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("watchers=%d", watchers), func(b *testing.B) {
			c, k := etcd.Client(b), key(b)
			saw := make(chan struct{}, watchers)
			var all sync.WaitGroup
			for range watchers {
				responses := c.Watch(b.Context(), k, clientv3.WithCreatedNotify())
				all.Go(func() {
					for range responses {
						saw <- struct{}{}
					}
				})
			}
			drain(saw, watchers)
			for b.Loop() {
				if _, err := c.Put(b.Context(), k, `{"rate":2}`); err != nil {
					b.Fatal(err)
				}
				drain(saw, watchers)
			}
			b.ReportMetric(float64(watchers)*float64(b.N)/b.Elapsed().Seconds(), "notifications/s")
			if err := c.Close(); err != nil {
				b.Fatal(err)
			}
			all.Wait()
		})
	}
}

func drain(saw <-chan struct{}, n int) {
	for range n {
		<-saw
	}
}
