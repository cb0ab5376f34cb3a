package discovery_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
)

// A clinic is a web server that is well, busy or ill, and counts who looks.
type clinic struct {
	*httptest.Server
	code  atomic.Int64
	looks atomic.Int64
}

func newClinic(t *testing.T) *clinic {
	t.Helper()
	c := new(clinic)
	c.code.Store(http.StatusOK)
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		c.looks.Add(1)
		w.WriteHeader(int(c.code.Load()))
	}))
	t.Cleanup(c.Close)
	return c
}

// checked is an instance with a check of the clinic.
func (c *clinic) checked(service string, n int) discovery.Instance {
	i := instance(service, n)
	i.Checks = []discovery.HostCheck{{URL: c.URL + "/health", Interval: time.Second, Rise: 1, Fall: 1}}
	return i
}

// checking carries out checks as a host does, until the test or stop ends it.
func checking(t *testing.T, c *clientv3.Client, opts ...discovery.Option) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := discovery.RunChecks(ctx, c, opts...); !errors.Is(err, context.Canceled) {
			t.Errorf("RunChecks: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// healthOf is what a snapshot says of an instance that is alone.
func healthOf(s *discovery.Snapshot) (discovery.State, *discovery.Health) {
	for _, i := range append(append([]discovery.Instance(nil), s.Instances...), s.Others...) {
		return i.State, i.Health
	}
	return "", nil
}

func (w *watcher) state(want discovery.State) *discovery.Snapshot {
	w.tb.Helper()
	return w.until("state "+string(want), func(s *discovery.Snapshot) bool {
		state, _ := healthOf(s)
		return state == want
	})
}

func TestHostsCheck(t *testing.T) {
	service, web := etcd.Prefix(t), newClinic(t)
	w := watching(t, resolver(t), service)
	r := registrar(t)
	g := registered(t, r, web.checked(service, 1))
	if _, h := healthOf(w.state(discovery.Critical)); h != nil {
		t.Errorf("before anybody has looked: %+v", h)
	}
	checking(t, etcd.Client(t))
	s := w.state(discovery.Passing)
	if _, h := healthOf(s); h == nil || len(h.States) != 1 || h.By == "" || h.Why != "" || h.At.IsZero() || len(s.Instances[0].Checks) != 1 {
		t.Errorf("well: %+v", s.Instances)
	}
	web.code.Store(http.StatusTooManyRequests)
	if s := w.state(discovery.Warning); ids(s) != "i-0001" {
		t.Errorf("warning: %+v", s)
	}
	web.code.Store(http.StatusServiceUnavailable)
	if _, h := healthOf(w.state(discovery.Critical)); h == nil || !strings.Contains(h.Why, "503") {
		t.Errorf("ill: %+v", h)
	}
	if got := g.Instance(); got.ID != "i-0001" {
		t.Errorf("registration: %+v", got)
	}
	web.code.Store(http.StatusOK)
	w.state(discovery.Passing)
	// What a program says, and an operator, counts beside it.
	i := g.Instance()
	i.State = discovery.Warning
	if err := g.Update(within(t), i); err != nil {
		t.Fatal(err)
	}
	w.state(discovery.Warning)
	if err := discovery.Mark(within(t), etcd.Client(t), "default", service, "i-0001", discovery.Maintenance, "ada"); err != nil {
		t.Fatal(err)
	}
	w.state(discovery.Maintenance)
	// Without checks nobody looks.
	i.State, i.Checks = discovery.Passing, nil
	if err := g.Update(within(t), i); err != nil {
		t.Fatal(err)
	}
	if err := discovery.Mark(within(t), etcd.Client(t), "default", service, "i-0001", "", ""); err != nil {
		t.Fatal(err)
	}
	w.until("no health", func(s *discovery.Snapshot) bool { return len(s.Instances) == 1 && s.Instances[0].Health == nil })
	if left := definitionsOf(t, service); len(left) != 0 {
		t.Errorf("definitions are left: %q", left)
	}
}

// definitionsOf are the keys of the definitions of a service.
func definitionsOf(t *testing.T, service string) (keys []string) {
	t.Helper()
	for _, kv := range etcd.Dump(t, "/conclave/default/discovery/_check/on/") {
		if strings.Contains(string(kv.Key), "/"+strings.ReplaceAll(service, "/", "%2F")+"/") {
			keys = append(keys, string(kv.Key))
		}
	}
	return keys
}

// What was registered anew keeps what was found; whoever takes it away leaves
// nothing behind.
func TestChecksSurviveWhatRegistrationsSurvive(t *testing.T) {
	service, web := etcd.Prefix(t), newClinic(t)
	w := watching(t, resolver(t), service)
	g := registered(t, registrarOn(t, session(t, core.WithTTL(5*time.Second))), web.checked(service, 1))
	checking(t, etcd.Client(t))
	w.state(discovery.Passing)
	eventually(t, "the registrar knows", func() bool { return g.Instance().Health != nil })
	for name, harm := range map[string]func(){
		"lease lost":         func() { coretest.ExpireLease(t, etcd.Client(t), clientv3.LeaseID(stands(t, service, "i-0001").Lease)) },
		"deleted":            func() { del(t, keyOf(service, "i-0001")) },
		"definition deleted": func() { del(t, definitionsOf(t, service)...) },
	} {
		before := etcd.Revision(t)
		harm()
		eventually(t, name+": defined again", func() bool {
			keys := definitionsOf(t, service)
			return len(keys) == 1 && etcd.Dump(t, keys[0])[0].ModRevision > before && stands(t, service, "i-0001") != nil
		})
		if s := must[*discovery.Snapshot](t)(discovery.Lookup(within(t), etcd.Client(t), "default", service)); ids(s) != "i-0001" {
			t.Errorf("%s: %+v", name, s)
		}
		web.code.Store(http.StatusInternalServerError)
		w.state(discovery.Critical)
		web.code.Store(http.StatusOK)
		w.state(discovery.Passing)
		eventually(t, "the registrar knows that it is well", func() bool { return g.Instance().State == discovery.Passing })
	}
	if err := g.Deregister(); err != nil {
		t.Fatal(err)
	}
	if left := definitionsOf(t, service); len(left) != 0 {
		t.Errorf("definitions are left: %q", left)
	}
}

// all waits until all instances are in a state.
func (w *watcher) all(n int, want discovery.State) {
	w.tb.Helper()
	w.until("all "+string(want), func(s *discovery.Snapshot) bool {
		is := 0
		for _, i := range append(append([]discovery.Instance(nil), s.Instances...), s.Others...) {
			if i.State == want {
				is++
			}
		}
		return is == n
	})
}

// Checks are shared by hosts, and go to another one when a host ends or dies.
func TestChecksMoveToAnotherHost(t *testing.T) {
	const n = 24 // so many that neither host has none
	service, web := etcd.Prefix(t), newClinic(t)
	w := watching(t, resolver(t), service)
	link := etcd.Link(t)
	checking(t, coretest.Dial(t, link.Endpoint()))
	r := registrar(t)
	for k := range n {
		registered(t, r, web.checked(service, k))
	}
	w.all(n, discovery.Passing)
	hosts := func() int { return len(etcd.Dump(t, "/conclave/default/discovery/_check/host/")) }
	owners := func() map[int64]int {
		by := map[int64]int{}
		for _, kv := range etcd.Dump(t, "/conclave/default/discovery/_check/owner/") {
			by[kv.Lease]++
		}
		return by
	}
	alone := sum(owners())
	second := checking(t, etcd.Client(t))
	shared := func() bool { return hosts() == 2 && len(owners()) == 2 && sum(owners()) == alone }
	eventually(t, "two hosts that both own something", shared)
	link.Cut() // the first host goes silent, and its lease expires
	eventually(t, "one host", func() bool { return hosts() == 1 })
	web.code.Store(http.StatusInternalServerError)
	w.all(n, discovery.Critical)
	link.Heal()
	eventually(t, "two hosts again", shared)
	second()
	web.code.Store(http.StatusOK)
	w.all(n, discovery.Passing)
	if by := owners(); sum(by) != alone || len(by) != 1 {
		t.Errorf("%d shards were owned, and are as %v", alone, by)
	}
}

func sum(m map[int64]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

// Hosts that have nothing to check write nothing, and have no lease.
func TestHostsWithoutChecksCostNothing(t *testing.T) {
	e := coretest.StartEtcd(t)
	before := e.Revision(t)
	checking(t, e.Client(t))
	service, web := "web", newClinic(t)
	s := sessionOn(t, e.Client(t))
	r := registrarOn(t, s)
	registered(t, r, instance(service, 1))
	g := registered(t, r, web.checked(service, 2))
	eventually(t, "checked", func() bool {
		s := must[*discovery.Snapshot](t)(discovery.Lookup(within(t), e.Client(t), "default", service))
		return len(s.Instances) == 2
	})
	if err := g.Deregister(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "nothing left", func() bool { return len(e.Dump(t, "/conclave/default/discovery/_check/")) == 0 })
	looks, rev := web.looks.Load(), e.Revision(t)
	resp := must[*clientv3.LeaseLeasesResponse](t)(e.Client(t).Leases(within(t)))
	eventually(t, "leases of the registrar, the session and the farewell only", func() bool {
		resp = must[*clientv3.LeaseLeasesResponse](t)(e.Client(t).Leases(within(t)))
		return len(resp.Leases) <= 3
	})
	if web.looks.Load() > looks+1 || rev == before {
		t.Errorf("looked at %d times after its end; revision %d", web.looks.Load()-looks, rev)
	}
}

// Namespaces that others registered in are found.
func TestChecksInOtherNamespaces(t *testing.T) {
	service, web := etcd.Prefix(t), newClinic(t)
	checking(t, etcd.Client(t))
	w := watching(t, resolver(t, discovery.WithNamespace("team")), service)
	registered(t, registrarOn(t, session(t, core.WithNamespace("team"))), web.checked(service, 1))
	w.state(discovery.Passing)
}

// Hosts go where they may, and nowhere because they were sent there.
func TestWhereHostsLook(t *testing.T) {
	service, web := etcd.Prefix(t), newClinic(t)
	hits := web.looks.Load()
	lure := httptest.NewServer(http.RedirectHandler(web.URL, http.StatusFound))
	t.Cleanup(lure.Close)
	w := watching(t, resolver(t), service)
	checking(t, etcd.Client(t), discovery.WithCheckNetworks(netip.MustParsePrefix("127.0.0.0/8")))
	i := web.checked(service, 1)
	i.Checks[0].URL = lure.URL
	g := registered(t, registrar(t), i)
	w.until("a redirection is no success", func(s *discovery.Snapshot) bool {
		state, h := healthOf(s)
		return state == discovery.Critical && h != nil && strings.Contains(h.Why, "302")
	})
	i.Checks[0].URL = "tcp://[::1]:1"
	if err := g.Update(within(t), i); err != nil {
		t.Fatal(err)
	}
	w.until("another network", func(s *discovery.Snapshot) bool {
		_, h := healthOf(s)
		return h != nil && strings.Contains(h.Why, "do not check at this address")
	})
	if web.looks.Load() != hits {
		t.Error("the redirection was followed")
	}
}

func TestChecksThatCannotBe(t *testing.T) {
	r := registrar(t)
	for want, c := range map[string]discovery.HostCheck{
		"command":  {URL: "exec:true"},
		"scheme":   {URL: "ftp://h:1"},
		"interval": {URL: "tcp://h:1", Interval: time.Millisecond},
		"timeout":  {URL: "tcp://h:1", Timeout: time.Minute},
		"rise":     {URL: "tcp://h:1", Rise: 101},
		"fall":     {URL: "tcp://h:1", Fall: -1},
		"url":      {URL: strings.Repeat("x", 513)},
	} {
		i := instance("web", 1)
		i.Checks = []discovery.HostCheck{c}
		_, err := r.Register(within(t), i)
		isAll(t, err, core.ErrInvalid)
		if !strings.Contains(err.Error(), "checks: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	i := instance("web", 1)
	i.Checks = make([]discovery.HostCheck, discovery.MaxChecks+1)
	_, err := r.Register(within(t), i)
	isAll(t, err, core.ErrInvalid)
	isAll(t, discovery.RunChecks(within(t), etcd.Client(t), discovery.WithCheckNamespaces("..")), core.ErrInvalid)
}

// Without a host's name a check is of the instance's host.
func TestCheckOfTheInstancesHost(t *testing.T) {
	service := etcd.Prefix(t)
	i := instance(service, 1)
	i.Checks = []discovery.HostCheck{{URL: "http://:8081/health"}, {URL: "tcp://"}}
	g := registered(t, registrar(t), i)
	got := g.Instance().Checks
	if got[0].URL != "http://10.0.0.1:8081/health" || got[1].URL != "tcp://10.0.0.1:80" || got[1].Interval != 10*time.Second || got[1].Fall != 3 {
		t.Errorf("%+v", got)
	}
}

// Of several checks the worst counts, and says why.
func TestTheWorstCheckCounts(t *testing.T) {
	service, one, two := etcd.Prefix(t), newClinic(t), newClinic(t)
	w := watching(t, resolver(t), service)
	i := one.checked(service, 1)
	i.Checks = append(i.Checks, two.checked(service, 1).Checks...)
	registered(t, registrar(t), i)
	checking(t, etcd.Client(t))
	w.state(discovery.Passing)
	two.code.Store(http.StatusInternalServerError)
	w.state(discovery.Critical)
	one.code.Store(http.StatusTooManyRequests)
	w.until("the first warns, the second fails", func(s *discovery.Snapshot) bool {
		state, h := healthOf(s)
		return state == discovery.Critical && h.States[0] == discovery.Warning && h.States[1] == discovery.Critical && strings.Contains(h.Why, "500")
	})
	two.code.Store(http.StatusOK)
	if _, h := healthOf(w.state(discovery.Warning)); !strings.Contains(h.Why, "429") {
		t.Errorf("%+v", h)
	}
}

// A verdict that arrives long after it was given up changes nothing.
func TestALateVerdict(t *testing.T) {
	service, web, f := etcd.Prefix(t), newClinic(t), coretest.NewFaults()
	w := watching(t, resolver(t), service)
	checking(t, etcd.Client(t, f.DialOptions()...))
	registered(t, registrar(t), web.checked(service, 1))
	w.state(discovery.Passing)
	late := f.Late(coretest.Puts(keyOf(service, "i-0001")))
	web.code.Store(http.StatusInternalServerError)
	if err := late.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	w.state(discovery.Critical) // it tried again
	web.code.Store(http.StatusOK)
	w.state(discovery.Passing)
	before := stands(t, service, "i-0001").ModRevision
	must[proto.Message](t)(late.Deliver(within(t)))
	if now := stands(t, service, "i-0001").ModRevision; now != before {
		t.Errorf("the record's revision is %d, and was %d", now, before)
	}
}
