package election_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

// The benchmarks compare with etcd's own concurrency.Election: on the same member,
// with fsync, over gRPC on loopback, in turn within one run. What they report are
// medians, and the ratio of the two. Absolute figures are the machine's; ratios
// hold better. Run them alone:
//
//	go test -run '^$' -bench . ./election
const rounds = 40 // after one that warms up

// settled is how long a candidate stands in line until nothing about it is new:
// etcd may take 100 ms, and a leader begins to follow the line after 250 ms.
const settled = 400 * time.Millisecond

// A candidate is one of either library, on a connection of its own.
type candidate interface {
	campaign(ctx context.Context) error
	resign() error
	// observe yields values of leaders, "" for none if the library tells.
	observe(ctx context.Context) iter.Seq[string]
}

type stock struct {
	e     *concurrency.Election
	value string
}

func (c *stock) campaign(ctx context.Context) error { return c.e.Campaign(ctx, c.value) }

func (c *stock) resign() error { return c.e.Resign(context.Background()) }

func (c *stock) observe(ctx context.Context) iter.Seq[string] {
	return func(yield func(string) bool) {
		for resp := range c.e.Observe(ctx) {
			if !yield(string(resp.Kvs[0].Value)) {
				return
			}
		}
	}
}

type ours struct {
	e     *election.Election
	value string
	term  *election.Term
}

func (c *ours) campaign(ctx context.Context) (err error) {
	c.term, err = c.e.Campaign(ctx, c.value)
	return err
}

func (c *ours) resign() error { return c.term.Resign() }

func (c *ours) observe(ctx context.Context) iter.Seq[string] {
	return func(yield func(string) bool) {
		for l, err := range c.e.Observe(ctx) {
			if err != nil || !yield(l.Value) {
				return
			}
		}
	}
}

// A library makes candidates for a name.
type library struct {
	name string
	make func(tb testing.TB, c *clientv3.Client, name, value string) candidate
}

var libraries = []library{
	{"stock", func(tb testing.TB, c *clientv3.Client, name, value string) candidate {
		s := must[*concurrency.Session](tb)(concurrency.NewSession(c, concurrency.WithTTL(60)))
		tb.Cleanup(func() { _ = s.Close() })
		return &stock{concurrency.NewElection(s, name), value}
	}},
	{"conclave", func(tb testing.TB, c *clientv3.Client, name, value string) candidate {
		s := must[*core.Session](tb)(core.NewSession(tb.Context(), c, core.WithTTL(time.Minute)))
		tb.Cleanup(func() { _ = s.Close() })
		return &ours{e: election.New(s, name), value: value}
	}},
}

func newEtcd(b *testing.B) *coretest.Etcd { return coretest.StartEtcd(b, coretest.WithFsync()) }

// report prints medians in microseconds, and the first one by the second.
func report(b *testing.B, times [2][]time.Duration) {
	b.ReportMetric(0, "ns/op")
	var medians [2]float64
	for i := range times {
		slices.Sort(times[i])
		medians[i] = float64(times[i][len(times[i])/2].Nanoseconds()) / 1e3
		b.ReportMetric(medians[i], libraries[i].name+"-µs")
	}
	b.ReportMetric(medians[0]/medians[1], "ratio")
}

// inTurn measures both libraries, the second first in every other round. The
// first round warms up.
func inTurn(b *testing.B, n int, measure [2]func(round int) time.Duration) {
	var times [2][]time.Duration
	b.ResetTimer()
	for r := range n + 1 {
		for i := range 2 {
			i := (i + r) % 2
			if d := measure[i](r); r > 0 {
				times[i] = append(times[i], d)
			}
		}
	}
	report(b, times)
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUncontended is one campaign, and its resignation.
func BenchmarkUncontended(b *testing.B) {
	e := newEtcd(b)
	var measure [2]func(int) time.Duration
	for i, lib := range libraries {
		c := lib.make(b, e.Client(b), lib.name, "leader")
		measure[i] = func(int) time.Duration {
			begun := time.Now()
			check(b, c.campaign(b.Context()))
			check(b, c.resign())
			return time.Since(begun)
		}
	}
	inTurn(b, 10*rounds, measure)
}

// BenchmarkHandover is the time from a resignation to the next leader's win: of
// one who has just arrived in line, and of one who stood there for a while.
func BenchmarkHandover(b *testing.B) {
	for _, k := range []struct {
		name   string
		settle time.Duration
	}{{"just-arrived", 0}, {"settled", settled}} {
		b.Run(k.name, func(b *testing.B) {
			e := newEtcd(b)
			var measure [2]func(int) time.Duration
			for i, lib := range libraries {
				pair := [2]candidate{lib.make(b, e.Client(b), lib.name, "a"), lib.make(b, e.Client(b), lib.name, "b")}
				check(b, pair[0].campaign(b.Context()))
				look := e.Client(b)
				measure[i] = func(r int) time.Duration {
					resigned, won := handover(b, look, lib.name, pair[r%2], pair[(r+1)%2], k.settle)
					return won.Sub(resigned)
				}
			}
			inTurn(b, rounds, measure)
		})
	}
}

// handover returns when one began to resign, and when the other one had won.
func handover(b *testing.B, look *clientv3.Client, name string, from, to candidate, settle time.Duration) (resigned, won time.Time) {
	before := tickets(b, look, name)
	done := make(chan error, 1)
	go func() {
		err := to.campaign(b.Context())
		won = time.Now()
		done <- err
	}()
	for now := before; now == before; { // until it stands in line
		now = tickets(b, look, name)
	}
	if settle > 0 {
		<-time.After(settle)
	}
	resigned = time.Now()
	check(b, from.resign())
	check(b, <-done)
	return resigned, won
}

// tickets counts the keys of both libraries for a name.
func tickets(b *testing.B, c *clientv3.Client, name string) int64 {
	var n int64
	for _, prefix := range []string{name + "/", prefixOf(name)} {
		resp, err := c.Get(b.Context(), prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
		check(b, err)
		n += resp.Count
	}
	return n
}

// BenchmarkObservers is the time from a resignation, with a candidate in line, to
// the moment when the last of many observers has seen the next leader. They share
// a connection and a session.
func BenchmarkObservers(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("observers=%d", n), func(b *testing.B) {
			e := newEtcd(b)
			ctx, cancel := context.WithCancel(b.Context())
			var observers sync.WaitGroup
			var measure [2]func(int) time.Duration
			for i, lib := range libraries {
				pair := [2]candidate{lib.make(b, e.Client(b), lib.name, "a"), lib.make(b, e.Client(b), lib.name, "b")}
				check(b, pair[0].campaign(b.Context()))
				seen, look := make(chan string, n), e.Client(b)
				from := lib.make(b, e.Client(b), lib.name, "")
				for range n {
					observers.Go(func() {
						for value := range from.observe(ctx) {
							seen <- value
						}
					})
				}
				all := func(value string) {
					for k := 0; k < n; {
						if <-seen == value {
							k++
						}
					}
				}
				all("a")
				measure[i] = func(r int) time.Duration {
					resigned, _ := handover(b, look, lib.name, pair[r%2], pair[(r+1)%2], settled)
					all([2]string{"b", "a"}[r%2])
					return time.Since(resigned)
				}
			}
			inTurn(b, rounds/2, measure)
			cancel()
			observers.Wait()
		})
	}
}
