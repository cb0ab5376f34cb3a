package discovery_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
)

func TestAnUnknownServiceIsEmpty(t *testing.T) {
	r := resolver(t)
	s := resolved(t, r, "nobody")
	if len(s.Instances) != 0 || s.Stale || s.Revision == 0 {
		t.Errorf("%+v", s)
	}
	if _, err := s.Pick(); err == nil {
		t.Error("something was picked")
	} else {
		isAll(t, err, discovery.ErrNoInstance)
	}
	_, err := r.Resolve(within(t), "a//b")
	isAll(t, err, core.ErrInvalid)
}

func TestServices(t *testing.T) {
	s := session(t, core.WithNamespace(strings.ReplaceAll(etcd.Prefix(t), "/", "-")))
	reg := registrarOn(t, s)
	r := resolver(t, discovery.WithNamespace(s.Namespace()))
	if all := must[[]discovery.Service](t)(r.Services(within(t))); len(all) != 0 {
		t.Errorf("before: %v", all)
	}
	gone := registered(t, reg, instance("c", 1))
	registered(t, reg, instance("b/x", 1))
	registered(t, reg, instance("b/x", 2))
	draining := instance("a", 1)
	draining.State = discovery.Draining
	registered(t, reg, draining)
	if err := gone.Deregister(); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(must[[]discovery.Service](t)(r.Services(within(t))))
	if got != "[{a 1 0} {b/x 2 2}]" {
		t.Errorf("services: %s", got)
	}
}

func TestResolveIsFree(t *testing.T) {
	service := etcd.Prefix(t)
	registered(t, registrar(t), instance(service, 1))
	l := etcd.Link(t)
	r := resolverOn(t, coretest.Dial(t, l.Endpoint()))
	resolved(t, r, service)
	l.Cut() // what needs the network fails from now on
	ctx := within(t)
	if n := testing.AllocsPerRun(measuredRuns, func() {
		if s, err := r.Resolve(ctx, service); err != nil || len(s.Instances) != 1 {
			t.Errorf("%v, %v", s, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestOneWatchForAllResolvers(t *testing.T) {
	service := etcd.Prefix(t)
	reg, opened := registrar(t), new(opened)
	c := etcd.Client(t, opened.count())
	g := registered(t, reg, instance(service, 1))
	var watchers []*watcher
	for range 20 {
		r := resolverOn(t, c)
		for range 5 {
			w := watching(t, r, service)
			w.sees("i-0001")
			watchers = append(watchers, w)
		}
	}
	if err := g.Deregister(); err != nil {
		t.Fatal(err)
	}
	for _, w := range watchers {
		w.sees("")
	}
	if n := opened.of(service); n != 1 {
		t.Errorf("%d watches", n)
	}
}

// opened counts the watches that a client opens, by key.
type opened struct {
	mu  sync.Mutex
	all map[string]int
}

func (o *opened) of(service string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.all[keyOf(service, "")]
}

func (o *opened) count() grpc.DialOption {
	return grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := open(ctx, desc, cc, method, opts...)
		return countedStream{s, o}, err
	})
}

type countedStream struct {
	grpc.ClientStream
	o *opened
}

func (s countedStream) SendMsg(m any) error {
	if req, ok := m.(*pb.WatchRequest); ok && req.GetCreateRequest() != nil {
		s.o.mu.Lock()
		if s.o.all == nil {
			s.o.all = map[string]int{}
		}
		s.o.all[string(req.GetCreateRequest().Key)]++
		s.o.mu.Unlock()
	}
	return s.ClientStream.SendMsg(m)
}

func TestTheLoopEndsWithItsContextAndWithTheResolver(t *testing.T) {
	r := resolver(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for s, err := range r.Watch(ctx, "s") {
		if n++; n == 1 {
			if s == nil || err != nil {
				t.Errorf("first: %v, %v", s, err)
			}
			cancel()
			continue
		}
		isAll(t, err, context.Canceled)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, err := range r.Watch(t.Context(), "s") {
			if err == nil {
				_ = r.Close()
				continue
			}
			isAll(t, err, discovery.ErrClosed)
		}
	})
	wg.Wait()
	_, err := r.Resolve(t.Context(), "s")
	isAll(t, err, discovery.ErrClosed)
	if n != 2 {
		t.Errorf("%d pairs", n)
	}
}

func TestStaleIsVisible(t *testing.T) {
	service := etcd.Prefix(t)
	registered(t, registrar(t), instance(service, 1))
	l := etcd.Link(t)
	r := resolverOn(t, coretest.Dial(t, l.Endpoint()), discovery.WithStaleAfter(time.Second))
	w := watching(t, r, service)
	w.sees("i-0001")
	l.Blackhole(coretest.Both)
	s := w.until("stale", func(s *discovery.Snapshot) bool { return s.Stale })
	if ids(s) != "i-0001" || s.Cause == nil {
		t.Errorf("stale: %+v", s)
	}
	l.Heal()
	w.until("fresh", func(s *discovery.Snapshot) bool { return !s.Stale && s.Cause == nil && ids(s) == "i-0001" })
}

func TestIdleServicesAreForgotten(t *testing.T) {
	service, opened := etcd.Prefix(t), new(opened)
	c := etcd.Client(t, opened.count())
	r := resolverOn(t, c, discovery.WithIdle(20*time.Millisecond))
	w := watching(t, r, service)
	w.sees("")
	registered(t, registrar(t), instance(service+"-other", 1))
	tick := time.NewTicker(100 * time.Millisecond) // far from busy
	defer tick.Stop()
	for deadline := time.Now().Add(patience); opened.of(service+"-other") < 2; <-tick.C {
		if s := resolved(t, r, service+"-other"); ids(s) != "i-0001" {
			t.Fatalf("resolved: %+v", s)
		}
		if time.Now().After(deadline) {
			t.Fatal("never forgotten")
		}
	}
	registered(t, registrar(t), instance(service, 1))
	w.sees("i-0001")
	if n := opened.of(service); n != 1 {
		t.Errorf("what is watched was forgotten: %d watches", n)
	}
}

func TestTheCopyOnDisk(t *testing.T) {
	service, dir := etcd.Prefix(t), t.TempDir()
	registered(t, registrar(t), instance(service, 1))
	first := resolver(t, discovery.WithDisk(dir))
	resolved(t, first, service)
	if err := first.Close(); err != nil { // which writes what waits
		t.Fatal(err)
	}
	l := etcd.Link(t)
	l.Cut()
	r := resolverOn(t, coretest.Dial(t, l.Endpoint()), discovery.WithDisk(dir))
	s := resolved(t, r, service)
	if ids(s) != "i-0001" || !s.Stale || s.Instances[0].Addr == "" {
		t.Errorf("from disk: %+v", s)
	}
	isAll(t, s.Cause, discovery.ErrFromDisk)
	if _, err := s.Pick(); err != nil {
		t.Error(err)
	}
	l.Heal()
	watching(t, r, service).until("fresh", func(s *discovery.Snapshot) bool { return !s.Stale && ids(s) == "i-0001" })

	if err := r.Close(); err != nil { // which would write it again
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.json"))
	if len(files) != 1 {
		t.Fatalf("files: %v", files)
	}
	if err := os.WriteFile(files[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.Cut()
	broken := resolverOn(t, coretest.Dial(t, l.Endpoint()), discovery.WithDisk(dir))
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := broken.Resolve(ctx, service)
	isAll(t, err, context.DeadlineExceeded)
}

// vanish deletes instances as the end of their leases would.
func vanish(t *testing.T, service string, from, to int) {
	t.Helper()
	var keys []string
	for n := from; n < to; n++ {
		keys = append(keys, keyOf(service, fmt.Sprintf("i-%04d", n)))
	}
	del(t, keys...)
}

// put registers instances of nobody, which nobody puts back.
func put(t *testing.T, service string, from, to int) {
	t.Helper()
	s := session(t)
	for n := from; n < to; n++ {
		must[core.Token](t)(discovery.Announce(within(t), s, instance(service, n)))
	}
}

func TestTheGuard(t *testing.T) {
	long := discovery.WithGuard(0.5, time.Hour, time.Hour)
	count := func(n int) func(*discovery.Snapshot) bool {
		return func(s *discovery.Snapshot) bool { return len(s.Instances) == n && !s.Stale && s.Kept == 0 }
	}
	t.Run("half may go", func(t *testing.T) {
		service := etcd.Prefix(t)
		put(t, service, 0, 8)
		w := watching(t, resolver(t, long), service)
		w.until("all", count(8))
		vanish(t, service, 0, 4)
		w.until("half", count(4))
	})
	t.Run("more than half stay", func(t *testing.T) {
		service := etcd.Prefix(t)
		put(t, service, 0, 8)
		r := resolver(t, long)
		w := watching(t, r, service)
		w.until("all", count(8))
		vanish(t, service, 0, 2)
		vanish(t, service, 2, 5)
		s := w.until("kept", func(s *discovery.Snapshot) bool { return s.Kept == 5 })
		isAll(t, s.Cause, discovery.ErrMassLoss)
		if len(s.Instances) != 8 || !s.Stale {
			t.Errorf("kept: %+v", s)
		}
		vanish(t, service, 5, 8)
		if s := w.until("all kept", func(s *discovery.Snapshot) bool { return s.Kept == 8 }); len(s.Instances) != 8 {
			t.Errorf("all kept: %+v", s)
		}
		put(t, service, 0, 8)
		w.until("all are back", count(8))
	})
	t.Run("three are few", func(t *testing.T) {
		service := etcd.Prefix(t)
		put(t, service, 0, 3)
		w := watching(t, resolver(t, long), service)
		w.until("all", count(3))
		vanish(t, service, 0, 3)
		w.until("none", count(0))
	})
	t.Run("who leaves does not count", func(t *testing.T) {
		service := etcd.Prefix(t)
		reg := registrar(t)
		w := watching(t, resolver(t, long), service)
		for n := range 8 {
			registered(t, reg, instance(service, n))
		}
		w.until("all", count(8))
		if err := reg.Close(); err != nil {
			t.Fatal(err)
		}
		w.until("none", count(0))
	})
	t.Run("draining does not count", func(t *testing.T) {
		service := etcd.Prefix(t)
		put(t, service, 0, 8)
		w := watching(t, resolver(t, long), service)
		w.until("all", count(8))
		for n := range 8 {
			if err := discovery.Mark(within(t), etcd.Client(t), "default", service, fmt.Sprintf("i-%04d", n), discovery.Draining, ""); err != nil {
				t.Fatal(err)
			}
		}
		w.until("none", count(0))
		vanish(t, service, 0, 8)
		w.until("gone", func(s *discovery.Snapshot) bool { return len(s.Others) == 0 && !s.Stale })
	})
	t.Run("not for ever", func(t *testing.T) {
		service := etcd.Prefix(t)
		put(t, service, 0, 8)
		w := watching(t, resolver(t, discovery.WithGuard(0.5, time.Hour, 300*time.Millisecond)), service)
		w.until("all", count(8))
		vanish(t, service, 0, 8)
		w.until("kept", func(s *discovery.Snapshot) bool { return s.Kept == 8 })
		w.until("given up", count(0))
	})
	t.Run("off", func(t *testing.T) {
		service := etcd.Prefix(t)
		put(t, service, 0, 8)
		w := watching(t, resolver(t, discovery.WithGuard(1, time.Hour, time.Hour)), service)
		w.until("all", count(8))
		vanish(t, service, 0, 8)
		w.until("none", count(0))
	})
}

func TestWhatIsNoRecordIsNoInstance(t *testing.T) {
	service := etcd.Prefix(t)
	put(t, service, 1, 2)
	c := etcd.Client(t)
	for _, key := range []string{keyOf(service, "bad"), keyOf(service, "") + "%61", keyOf(service, ""), strings.TrimSuffix(keyOf(service, ""), "instance/") + "other"} {
		must[*clientv3.PutResponse](t)(c.Put(within(t), key, `{"v":1}`))
	}
	if s := resolved(t, resolver(t), service); ids(s) != "i-0001" {
		t.Errorf("instances: %q", ids(s))
	}
	if s := must[*discovery.Snapshot](t)(discovery.Lookup(within(t), c, "default", service)); ids(s) != "i-0001" {
		t.Errorf("looked up: %q", ids(s))
	}
}
