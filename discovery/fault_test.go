package discovery_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/discovery"
)

// A restartable member stops and starts on the same port.
type restartable struct {
	config embedded.Config
	member *embedded.Member
}

func startMember(tb testing.TB) *restartable {
	tb.Helper()
	r := &restartable{config: embedded.Config{Name: "restarted", DataDir: tb.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		Fast: true, NoFsync: true}}
	r.start(tb)
	u := must[*url.URL](tb)(url.Parse(r.member.Endpoints()[0]))
	r.config.ClientAddr = u.Host
	tb.Cleanup(func() {
		if err := r.member.Close(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

func (r *restartable) start(tb testing.TB) {
	tb.Helper()
	r.member = must[*embedded.Member](tb)(embedded.Start(within(tb), r.config))
}

func (r *restartable) stop(tb testing.TB) {
	tb.Helper()
	if err := r.member.Close(); err != nil {
		tb.Fatal(err)
	}
}

// dial is a client as a program has it, which pauses for long after failures.
func (r *restartable) dial(tb testing.TB) *clientv3.Client {
	tb.Helper()
	c := must[*clientv3.Client](tb)(clientv3.New(clientv3.Config{Endpoints: r.member.Endpoints(), Logger: zap.NewNop()}))
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// soaking reports whether the long variants shall run.
func soaking() bool { return os.Getenv("CONCLAVE_SOAK") == "1" }

// An outage is etcd being away for a while.
type outage struct {
	instances, registrars int
	away                  time.Duration
	loses                 bool // all that etcd knew
}

func TestOutage(t *testing.T) {
	o := outage{instances: 100, registrars: 2, away: 6 * time.Second}
	if soaking() {
		o = outage{instances: 1000, registrars: 4, away: 15 * time.Second} // three TTLs
	} else {
		t.Log("100 instances and 6 s; CONCLAVE_SOAK=1 runs 1,000 and 15 s")
	}
	t.Run("etcd keeps what it knew", o.run)
	o.loses, o.away = true, o.away/3
	t.Run("etcd loses all", o.run)
}

func (o outage) run(t *testing.T) {
	m := startMember(t)
	for k := range o.registrars {
		s := sessionOn(t, m.dial(t), core.WithTTL(5*time.Second))
		reg := registrarOn(t, s)
		var wg sync.WaitGroup
		for n := k; n < o.instances; n += o.registrars {
			wg.Go(func() { registered(t, reg, instance("web", n)) })
		}
		wg.Wait()
	}
	r := resolverOn(t, m.dial(t))
	fresh := watching(t, r, "web")
	fresh.until("all", func(s *discovery.Snapshot) bool { return len(s.Instances) == o.instances })

	stop, asking := make(chan struct{}), new(sync.WaitGroup)
	var least atomic.Int64
	least.Store(int64(o.instances))
	asking.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				s, err := r.Resolve(context.Background(), "web")
				if err != nil {
					t.Errorf("resolve: %v", err)
					return
				}
				least.Store(min(least.Load(), int64(len(s.Instances))))
			}
		}
	})
	m.stop(t)
	if o.loses {
		m.config.DataDir = t.TempDir()
	}
	<-time.After(o.away) // the outage itself: nothing happens that could be waited for
	m.start(t)
	back := time.Now()
	rec := recordChanges(t, m.member.Client())
	o.allBack(t, m.member.Client())
	took := time.Since(back)
	eventually(t, "readers are sure of it", func() bool {
		s := resolved(t, r, "web")
		return len(s.Instances) == o.instances && !s.Stale && s.Kept == 0
	})
	t.Logf("all %d back %v after etcd, readers sure of it %v after; never fewer than %d resolved; at most %d updates of one instance",
		o.instances, took.Round(time.Millisecond), time.Since(back).Round(time.Millisecond), least.Load(), rec.most())
	close(stop)
	asking.Wait()
	if least.Load() != int64(o.instances) {
		t.Errorf("%d of %d were resolved in between", least.Load(), o.instances)
	}
	if rec.most() > 1 {
		t.Errorf("an instance was updated %d times", rec.most())
	}
}

// allBack waits until every instance is on a lease that lives.
func (o outage) allBack(t *testing.T, c *clientv3.Client) {
	t.Helper()
	eventually(t, "all are back", func() bool {
		resp := must[*clientv3.GetResponse](t)(c.Get(within(t), keyOf("web", ""), clientv3.WithPrefix()))
		leases := map[int64]bool{}
		for _, kv := range resp.Kvs {
			leases[kv.Lease] = true
		}
		for id := range leases {
			ttl, err := c.TimeToLive(within(t), clientv3.LeaseID(id))
			if err != nil || ttl.TTL <= 0 {
				return false
			}
		}
		return len(resp.Kvs) == o.instances
	})
}

// changes counts the events of every key.
type changes struct {
	mu     sync.Mutex
	counts map[string]int
}

func recordChanges(t *testing.T, c *clientv3.Client) *changes {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	rec := &changes{counts: map[string]int{}}
	w := c.Watch(ctx, keyOf("web", ""), clientv3.WithPrefix(), clientv3.WithRev(1), clientv3.WithCreatedNotify())
	<-w
	first := must[*clientv3.GetResponse](t)(c.Get(within(t), "x")).Header.Revision
	var wg sync.WaitGroup
	wg.Go(func() {
		for resp := range w {
			rec.mu.Lock()
			for _, ev := range resp.Events {
				if ev.Kv.ModRevision > first || first < 10 { // an empty etcd begins anew
					rec.counts[string(ev.Kv.Key)]++
				}
			}
			rec.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	return rec
}

func (c *changes) most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, count := range c.counts {
		n = max(n, count)
	}
	return n
}

// Whatever reply is lost, one registration stands, and after Deregister none.
func TestLostReplies(t *testing.T) {
	for name, lose := range map[string]func(service string, f *coretest.Faults){
		"replies": func(service string, f *coretest.Faults) {
			f.LoseReply(coretest.Puts(keyOf(service, "")), coretest.Times(2))
		},
		"requests": func(service string, f *coretest.Faults) {
			f.LoseRequest(coretest.Puts(keyOf(service, "")), coretest.Times(2))
		},
	} {
		t.Run(name, func(t *testing.T) {
			service, f := etcd.Prefix(t), coretest.NewFaults()
			r := registrarOn(t, sessionOn(t, etcd.Client(t, f.DialOptions()...)))
			lose(service, f)
			g := registered(t, r, instance(service, 1))
			kv := stands(t, service, "i-0001")
			if kv == nil || !strings.Contains(string(kv.Value), fmt.Sprintf(`"inc":%d,`, g.Token()>>16)) {
				t.Errorf("token %d of %v", g.Token(), kv)
			}
			w := watching(t, resolver(t), service)
			w.sees("i-0001")
			lose(service, f)
			if err := g.Update(within(t), discovery.Instance{Addr: "h:81"}); err != nil {
				t.Error(err)
			}
			w.until("the update", func(s *discovery.Snapshot) bool { return s.Instances[0].Addr == "h:81" })
			f.Clear()
			f.LoseReply(coretest.Puts(keyOf(service, "")))
			if err := g.Deregister(); err != nil {
				t.Error(err)
			}
			w.sees("")
		})
	}
}

// A request that arrives long after the instance was deregistered is found out.
func TestALateRequest(t *testing.T) {
	service, f := etcd.Prefix(t), coretest.NewFaults()
	r := registrarOn(t, sessionOn(t, etcd.Client(t, f.DialOptions()...), core.WithTTL(5*time.Second)))
	registered(t, r, instance(service, 0)) // keeps the lease in use
	late := f.Late(coretest.Puts(keyOf(service, "i-0001")))
	g := registered(t, r, instance(service, 1))
	if err := g.Deregister(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the farewell ends", func() bool { return stands(t, service, "i-0001") == nil })
	must[proto.Message](t)(late.Deliver(within(t)))
	eventually(t, "it is taken away", func() bool { return stands(t, service, "i-0001") == nil })
	if stands(t, service, "i-0000") == nil {
		t.Error("the other one went too")
	}
}

// A link that comes and goes never takes an instance away for good.
func TestALinkThatComesAndGoes(t *testing.T) {
	service, l := etcd.Prefix(t), etcd.Link(t)
	r := registrarOn(t, sessionOn(t, coretest.Dial(t, l.Endpoint()), core.WithTTL(5*time.Second)))
	for n := range 5 {
		registered(t, r, instance(service, n))
	}
	for range 3 {
		l.Cut()
		vanish(t, service, 0, 5)
		l.Heal()
		eventually(t, "all are back", func() bool { return len(etcd.Dump(t, keyOf(service, ""))) == 5 })
	}
}

// A store that takes nothing more lets instances go, and takes them again when
// there is room.
func TestNoSpace(t *testing.T) {
	e := coretest.StartEtcd(t, coretest.WithConfig(func(c *embedded.Config) { c.QuotaBytes = 4 << 20 }))
	s := sessionOn(t, e.Client(t))
	r := registrarOn(t, s)
	g := registered(t, r, instance("web", 1))
	c := e.Client(t)
	for n := range 100 {
		if _, err := c.Put(within(t), fmt.Sprint("fill", n), string(make([]byte, 256<<10))); err != nil {
			break
		}
	}
	if err := g.Deregister(); err != nil {
		t.Error(err)
	}
	if kvs := e.Dump(t, keyOf("web", "")); len(kvs) != 0 {
		t.Errorf("left: %s", kvs[0].Value)
	}
}
