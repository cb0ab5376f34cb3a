//go:build unix

package discovery_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
)

// Of BenchmarkWatchProcesses.
const (
	watchProcesses = 10
	watchersEach   = 1000
	watchChanges   = 40
)

// BenchmarkWatchProcesses: one change of a service to 10,000 loops in 10 processes,
// beside 10,000 etcd watches in 10 processes. Latencies are from before the change
// is sent until a loop has it, over all loops and changes. Processor time is per
// change: of the process that serves etcd and makes the change, and of all who
// watch.
func BenchmarkWatchProcesses(b *testing.B) {
	for b.Loop() {
		ours := watchedBy(b, "watchers", func(b *testing.B, e *coretest.Etcd) (change func(string)) {
			g := registered(b, registrarOn(b, sessionOn(b, e.Client(b), core.WithTTL(time.Minute))), instance("web", 1))
			return func(v string) {
				i := instance("web", 1)
				i.Version = v
				if err := g.Update(b.Context(), i); err != nil {
					b.Error(err)
				}
			}
		})
		bare := watchedBy(b, "bare watchers", func(b *testing.B, e *coretest.Etcd) (change func(string)) {
			c := e.Client(b)
			return func(v string) { must[*clientv3.PutResponse](b)(c.Put(b.Context(), "bare", v)) }
		})
		ours.report(b, "")
		bare.report(b, "etcd-")
		b.ReportMetric(bare.at(99)/ours.at(99), "ratio-p99")
		b.ReportMetric(float64(bare.server+bare.watchers)/float64(ours.server+ours.watchers), "ratio-cpu")
	}
}

// A measure is what so many changes took.
type measure struct {
	latencies        []time.Duration // sorted
	server, watchers time.Duration   // processor time per change
}

func (m *measure) at(percent int) float64 {
	return float64(m.latencies[len(m.latencies)*percent/100]) / float64(time.Millisecond)
}

func (m *measure) report(b *testing.B, whose string) {
	b.ReportMetric(m.at(50), whose+"p50-ms")
	b.ReportMetric(m.at(99), whose+"p99-ms")
	b.ReportMetric(float64(m.server.Microseconds())/1000, whose+"server-cpu-ms")
	b.ReportMetric(float64(m.watchers.Microseconds())/1000, whose+"watchers-cpu-ms")
}

// watchedBy makes changes, with processes of that kind to watch them.
func watchedBy(b *testing.B, kind string, begin func(b *testing.B, e *coretest.Etcd) (change func(string))) *measure {
	b.Helper()
	e := coretest.StartEtcd(b, coretest.WithFsync())
	change := begin(b, e)
	var children []*coretest.Process
	var m measure
	var before, after time.Duration // of the children
	for range watchProcesses {
		children = append(children, coretest.Child(b, kind, "ETCD="+e.Endpoint()))
	}
	defer func() {
		for _, p := range children {
			p.Kill()
		}
	}()
	for _, p := range children {
		before += told(b, p, &m, 0)
	}
	own := used(b)
	for n := 1; n <= watchChanges; n++ {
		change(fmt.Sprint(n, "@", time.Now().UnixNano()))
		after = 0
		for _, p := range children {
			after += told(b, p, &m, n)
		}
	}
	m.server, m.watchers = (used(b)-own)/watchChanges, (after-before)/watchChanges
	slices.Sort(m.latencies)
	if len(m.latencies) != watchProcesses*watchersEach*watchChanges {
		b.Fatalf("%d notifications", len(m.latencies))
	}
	return &m
}

// told reads what a process says after change n: its processor time so far, and the
// latencies of its loops.
func told(b *testing.B, p *coretest.Process, m *measure, n int) (cpu time.Duration) {
	b.Helper()
	for k, f := range strings.Fields(p.ExpectLine(fmt.Sprint("change ", n, " "))) {
		d := must[int64](b)(strconv.ParseInt(f, 10, 64))
		if k == 0 {
			cpu = time.Duration(d)
		} else {
			m.latencies = append(m.latencies, time.Duration(d))
		}
	}
	return cpu
}

// A crowd is all loops of one process.
type crowd struct {
	mu        sync.Mutex
	change    int
	latencies []string
}

// saw is called by each loop with each change.
func (c *crowd) saw(v string) {
	number, at, ok := strings.Cut(v, "@")
	n, err := strconv.Atoi(number)
	sent, err2 := strconv.ParseInt(at, 10, 64)
	if !ok || err != nil || err2 != nil {
		return // from before the first change
	}
	now := time.Now().UnixNano()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change, c.latencies = n, append(c.latencies, strconv.FormatInt(now-sent, 10))
	if len(c.latencies) == watchersEach {
		c.tell()
	}
}

func (c *crowd) tell() {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it has no way to fail
	fmt.Println("change", c.change, u.Utime.Nano()+u.Stime.Nano(), strings.Join(c.latencies, " "))
	c.latencies = nil
}

// children are the processes of benchmarks.
func children() map[string]func() int {
	return map[string]func() int{"watchers": watching1000(follower()), "bare watchers": watching1000(bareFollower)}
}

// watching1000 is a process in which 1,000 loops follow what follow follows.
func watching1000(follow func(c *clientv3.Client, ready func(), saw func(string))) func() int {
	return func() int {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ETCD")}, Logger: zap.NewNop()})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer c.Close()
		var all crowd
		var ready sync.WaitGroup
		ready.Add(watchersEach)
		for range watchersEach {
			go follow(c, ready.Done, all.saw)
		}
		ready.Wait()
		all.mu.Lock()
		all.tell()
		all.mu.Unlock()
		select {} // until it is killed
	}
}

// follower is a loop over a resolver that all of its process share.
func follower() func(c *clientv3.Client, ready func(), saw func(string)) {
	var once sync.Once
	var r *discovery.Resolver
	return func(c *clientv3.Client, ready func(), saw func(string)) {
		once.Do(func() { r = discovery.NewResolver(c) })
		first := true
		for s, err := range r.Watch(context.Background(), "web") {
			if err != nil {
				return
			}
			if first {
				first = false
				ready()
			}
			saw(s.Instances[0].Version)
		}
	}
}

// bareFollower is an etcd watch.
func bareFollower(c *clientv3.Client, ready func(), saw func(string)) {
	w := c.Watch(context.Background(), "bare", clientv3.WithCreatedNotify())
	<-w
	ready()
	for resp := range w {
		for _, ev := range resp.Events {
			saw(string(ev.Kv.Value))
		}
	}
}
