package discovery_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
)

func TestRegisterUpdateDrainDeregister(t *testing.T) {
	service := etcd.Prefix(t)
	r, w := registrar(t, discovery.WithDrainWait(10*time.Millisecond)), watching(t, resolver(t), service)
	w.sees("")
	g := registered(t, r, discovery.Instance{Service: service, ID: "a/1", Addr: "h:80", Zone: "z", Version: "2", Weight: 7,
		Tags: []string{"x"}, Metadata: map[string]string{"k": "v"}})
	s := w.sees("a/1")
	i := s.Instances[0]
	if i.Addr != "h:80" || i.Zone != "z" || i.Version != "2" || i.Weight != 7 || i.Tags[0] != "x" || i.Metadata["k"] != "v" ||
		i.State != discovery.Passing || i.Token != g.Token() || i.Owner == "" || i.Since.IsZero() || s.Stale || s.Revision == 0 {
		t.Errorf("read back: %+v of %+v", i, s)
	}
	token := g.Token()
	if err := g.Update(within(t), discovery.Instance{Addr: "h:81"}); err != nil {
		t.Fatal(err)
	}
	i = w.until("the update", func(s *discovery.Snapshot) bool { return s.Instances[0].Addr == "h:81" }).Instances[0]
	if i.Token != token || g.Token() != token || i.Weight != 1 || i.Metadata != nil {
		t.Errorf("after the update: %+v", i)
	}
	if err := g.Drain(within(t)); err != nil {
		t.Fatal(err)
	}
	s = w.sees("")
	if len(s.Others) != 1 || s.Others[0].State != discovery.Draining || g.Instance().State != discovery.Draining {
		t.Errorf("draining: %+v", s)
	}
	if err := g.Deregister(); err != nil {
		t.Fatal(err)
	}
	w.until("nothing", func(s *discovery.Snapshot) bool { return len(s.Others) == 0 && !s.Stale })
	isAll(t, ended(t, g), core.ErrReleased)
	if err := g.Deregister(); err != nil {
		t.Errorf("a second one: %v", err)
	}
	isAll(t, g.Update(within(t), instance(service, 1)), core.ErrInvalid)
	isAll(t, g.Update(within(t), discovery.Instance{Addr: "h:1"}), discovery.ErrLost, core.ErrReleased)
	isAll(t, g.Drain(within(t)), discovery.ErrLost)
}

func TestTheLaterRegistrationCounts(t *testing.T) {
	service := etcd.Prefix(t)
	w := watching(t, resolver(t), service)
	one, two := registrar(t), registrar(t)
	var before *discovery.Registration
	for k, r := range []*discovery.Registrar{one, two, two, one} {
		i := instance(service, 1)
		i.Version = fmt.Sprint(k)
		g := registered(t, r, i)
		w.until("the new one", func(s *discovery.Snapshot) bool { return len(s.Instances) == 1 && s.Instances[0].Version == i.Version })
		if before != nil {
			isAll(t, ended(t, before), discovery.ErrSuperseded)
			isAll(t, before.Update(within(t), i), discovery.ErrLost, discovery.ErrSuperseded)
			isAll(t, before.Deregister(), discovery.ErrLost)
			if g.Token() <= before.Token() {
				t.Errorf("token %d after %d", g.Token(), before.Token())
			}
		}
		before = g
	}
	if kv := stands(t, service, "i-0001"); kv == nil {
		t.Error("the last registration does not stand")
	}
}

func TestAnInstanceComesBack(t *testing.T) {
	service := etcd.Prefix(t)
	r := registrar(t)
	g := registered(t, r, instance(service, 1))
	w := watching(t, resolver(t), service)
	w.sees("i-0001")
	token := g.Token()
	for name, harm := range map[string]func(){
		"deleted":     func() { del(t, keyOf(service, "i-0001")) },
		"overwritten": func() { must[any](t)(etcd.Client(t).Put(within(t), keyOf(service, "i-0001"), "garbage")) },
		"lease lost":  func() { coretest.ExpireLease(t, etcd.Client(t), clientv3.LeaseID(stands(t, service, "i-0001").Lease)) },
	} {
		before := stands(t, service, "i-0001").ModRevision
		harm()
		eventually(t, name+": put again", func() bool {
			kv := stands(t, service, "i-0001")
			return kv != nil && kv.ModRevision > before && kv.Lease != 0 && strings.HasPrefix(string(kv.Value), `{"v":1`)
		})
		w.sees("i-0001")
	}
	if g.Token() != token || g.Context().Err() != nil {
		t.Errorf("token %d after %d, %v", g.Token(), token, g.Context().Err())
	}
}

func TestTheSessionMayExpire(t *testing.T) {
	service := etcd.Prefix(t)
	s := session(t)
	r := registrarOn(t, s)
	g := registered(t, r, instance(service, 1))
	coretest.ExpireLease(t, s.Client(), s.Lease())
	<-s.Context().Done()
	del(t, keyOf(service, "i-0001"))
	eventually(t, "put again", func() bool { return stands(t, service, "i-0001") != nil })
	registered(t, r, instance(service, 2))
	if g.Context().Err() != nil {
		t.Error(context.Cause(g.Context()))
	}
}

// A session that expired still says when its owner closes it.
func TestClosingAnExpiredSessionDeregisters(t *testing.T) {
	service := etcd.Prefix(t)
	s := session(t)
	r := discovery.NewRegistrar(s)
	first := registered(t, r, instance(service, 1))
	coretest.ExpireLease(t, s.Client(), s.Lease())
	<-s.Context().Done()
	late := discovery.NewRegistrar(s)
	second := registered(t, late, instance(service, 2))
	isAll(t, s.Close(), core.ErrSessionExpired)
	for _, g := range []*discovery.Registration{first, second} {
		isAll(t, ended(t, g), core.ErrReleased, core.ErrSessionClosed)
	}
	if s := must[*discovery.Snapshot](t)(discovery.Lookup(within(t), etcd.Client(t), "default", service)); len(s.Instances) != 0 {
		t.Errorf("still registered: %s", ids(s))
	}
	_, err := discovery.NewRegistrar(s).Register(within(t), instance(service, 3))
	isAll(t, err, core.ErrSessionClosed)
}

func TestClosingTheSessionDeregisters(t *testing.T) {
	service := etcd.Prefix(t)
	s := session(t)
	w := watching(t, resolver(t), service)
	r := discovery.NewRegistrar(s)
	var all []*discovery.Registration
	for n := range 6 {
		all = append(all, registered(t, r, instance(service, n)))
	}
	w.until("all", func(s *discovery.Snapshot) bool { return len(s.Instances) == 6 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	end := w.until("none", func(s *discovery.Snapshot) bool { return len(s.Instances) == 0 })
	if end.Stale {
		t.Errorf("a farewell is no loss: %+v", end)
	}
	for _, g := range all {
		isAll(t, ended(t, g), core.ErrReleased)
	}
	_, err := r.Register(within(t), instance(service, 1))
	isAll(t, err, core.ErrSessionClosed)
}

func TestRegisterGivesUpWithItsContext(t *testing.T) {
	service := etcd.Prefix(t)
	l := etcd.Link(t)
	s := sessionOn(t, coretest.Dial(t, l.Endpoint()))
	r := registrarOn(t, s)
	l.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := r.Register(ctx, instance(service, 1))
	isAll(t, err, context.DeadlineExceeded)
	l.Heal()
	registered(t, r, instance(service, 2))
	if kv := stands(t, service, "i-0001"); kv != nil && !strings.Contains(string(kv.Value), "left") {
		t.Errorf("left behind: %s", kv.Value)
	}
}

func TestOneLeaseForManyInstances(t *testing.T) {
	service := etcd.Prefix(t)
	r := registrar(t)
	leases := map[int64]int{}
	done := make(chan error, 1100)
	for n := range 1100 {
		go func() {
			_, err := r.Register(within(t), instance(service, n))
			done <- err
		}()
	}
	for range 1100 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	for _, kv := range etcd.Dump(t, keyOf(service, "i-")) {
		leases[kv.Lease]++
	}
	if len(leases) != 2 {
		t.Errorf("%d leases: %v", len(leases), leases)
	}
	for lease, n := range leases {
		if n > 1000 {
			t.Errorf("lease %x has %d keys", lease, n)
		}
	}
}

func TestAnOperatorsMark(t *testing.T) {
	service := etcd.Prefix(t)
	r, c := registrar(t), etcd.Client(t)
	g := registered(t, r, instance(service, 1))
	w := watching(t, resolver(t), service)
	w.sees("i-0001")
	if err := discovery.Mark(within(t), c, "default", service, "i-0001", discovery.Maintenance, "ada"); err != nil {
		t.Fatal(err)
	}
	if s := w.sees(""); len(s.Others) != 1 || s.Others[0].State != discovery.Maintenance {
		t.Errorf("marked: %+v", s)
	}
	eventually(t, "the program knows", func() bool { return g.Instance().State == discovery.Maintenance })
	del(t, keyOf(service, "i-0001"))
	eventually(t, "put again", func() bool { return stands(t, service, "i-0001") != nil })
	if err := g.Update(within(t), discovery.Instance{Addr: "h:99"}); err != nil {
		t.Fatal(err)
	}
	w.until("the mark stays", func(s *discovery.Snapshot) bool {
		return len(s.Others) == 1 && s.Others[0].Addr == "h:99" && s.Others[0].State == discovery.Maintenance
	})
	if err := discovery.Mark(within(t), c, "default", service, "i-0001", "", ""); err != nil {
		t.Fatal(err)
	}
	w.sees("i-0001")
	isAll(t, discovery.Mark(within(t), c, "default", service, "nobody", discovery.Draining, ""), discovery.ErrNoInstance)
	isAll(t, discovery.Mark(within(t), c, "default", service, "i-0001", "odd", ""), core.ErrInvalid)
}

func TestAnnounceAndWithdraw(t *testing.T) {
	service := etcd.Prefix(t)
	s := session(t)
	w := watching(t, resolver(t), service)
	w.sees("")
	i := instance(service, 1)
	token := must[core.Token](t)(discovery.Announce(within(t), s, i))
	w.sees("i-0001")
	i.Version = "2"
	if again := must[core.Token](t)(discovery.Announce(within(t), s, i)); again != token {
		t.Errorf("token %d, then %d", token, again)
	}
	w.until("the update", func(s *discovery.Snapshot) bool { return s.Instances[0].Version == "2" })
	isAll(t, discovery.Withdraw(within(t), s, service, "i-0001", token+1), discovery.ErrStaleToken)
	isAll(t, discovery.Change(within(t), s, service, "i-0001", token+1, discovery.Warning), discovery.ErrStaleToken)
	if err := discovery.Change(within(t), s, service, "i-0001", token, discovery.Draining); err != nil {
		t.Fatal(err)
	}
	w.sees("")
	isAll(t, discovery.Withdraw(within(t), session(t), service, "i-0001", 0), discovery.ErrLost)
	if err := discovery.Withdraw(within(t), s, service, "i-0001", token); err != nil {
		t.Fatal(err)
	}
	w.until("gone", func(s *discovery.Snapshot) bool { return len(s.Others) == 0 })
	isAll(t, discovery.Withdraw(within(t), s, service, "i-0001", token), discovery.ErrLost)
	if again := must[core.Token](t)(discovery.Announce(within(t), s, i)); again <= token {
		t.Errorf("token %d after %d", again, token)
	}
}

func TestWhatCannotBeRegistered(t *testing.T) {
	r := registrar(t)
	long := strings.Repeat("x", 256)
	for name, i := range map[string]discovery.Instance{
		"service":  {Addr: "h:80"},
		"addr":     {Service: "s", Addr: "h"},
		"port":     {Service: "s", Addr: "h:0"},
		"id":       {Service: "s", Addr: "h:80", ID: "a//b"},
		"zone":     {Service: "s", Addr: "h:80", Zone: long},
		"version":  {Service: "s", Addr: "h:80", Version: "a\nb"},
		"weight":   {Service: "s", Addr: "h:80", Weight: -1},
		"tags":     {Service: "s", Addr: "h:80", Tags: []string{long}},
		"metadata": {Service: "s", Addr: "h:80", Metadata: map[string]string{"": "v"}},
		"state":    {Service: "s", Addr: "h:80", State: "left"},
	} {
		_, err := r.Register(within(t), i)
		isAll(t, err, core.ErrInvalid)
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, opt := range []discovery.Option{discovery.WithNaming("/conclave/x"), discovery.WithDrainWait(-1), discovery.WithGuard(2, 1, 1),
		discovery.WithStaleAfter(1), discovery.WithNamespace("a/b"), discovery.WithIdle(-1)} {
		_, err := registrar(t, opt).Register(within(t), instance("s", 1))
		isAll(t, err, core.ErrInvalid)
		_, err = resolver(t, opt).Resolve(within(t), "s")
		isAll(t, err, core.ErrInvalid)
	}
}
