package kratosregistry

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-kratos/kratos/v2"
	"github.com/go-kratos/kratos/v2/registry"
	kratosgrpc "github.com/go-kratos/kratos/v2/transport/grpc"
	kratoshttp "github.com/go-kratos/kratos/v2/transport/http"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

const patience = time.Minute

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// on returns a registry on a connection to etcd.
func on(t *testing.T, c *clientv3.Client) *Registry {
	t.Helper()
	s, err := core.NewSession(within(t), c, core.WithTTL(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	r := discovery.NewResolver(c)
	t.Cleanup(func() { _ = r.Close() })
	return New(discovery.NewRegistrar(s), r)
}

// start runs a kratos application with both transports until stop.
func start(t *testing.T, r *Registry, id string) (stop func()) {
	t.Helper()
	up := make(chan struct{})
	app := kratos.New(kratos.ID(id), kratos.Name("shop"), kratos.Version("1"), kratos.Metadata(map[string]string{"team": "ops"}), kratos.Registrar(r),
		kratos.Server(kratosgrpc.NewServer(kratosgrpc.Address("127.0.0.1:0")), kratoshttp.NewServer(kratoshttp.Address("127.0.0.1:0"))),
		kratos.AfterStart(func(context.Context) error { close(up); return nil }))
	var running sync.WaitGroup
	running.Go(func() {
		if err := app.Run(); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-up:
	case <-time.After(patience):
		t.Fatal("the application does not start")
	}
	stop = sync.OnceFunc(func() {
		_ = app.Stop()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// until reads the watcher until it has seen so many instances.
func until(t *testing.T, w registry.Watcher, n int) []*registry.ServiceInstance {
	t.Helper()
	type answer struct {
		list []*registry.ServiceInstance
		err  error
	}
	for {
		next := make(chan answer, 1)
		go func() {
			list, err := w.Next()
			next <- answer{list, err}
		}()
		select {
		case a := <-next:
			if a.err != nil {
				t.Fatal(a.err)
			}
			if len(a.list) == n {
				return a.list
			}
		case <-time.After(patience):
			t.Fatalf("never %d instances", n)
		}
	}
}

// A client of kratos finds applications of kratos that come and go, and calls them
// on through an outage of etcd that lasts longer than their leases.
func TestKratosRidesThroughAnOutage(t *testing.T) {
	link := etcd.Link(t)
	r := on(t, coretest.Dial(t, link.Endpoint()))
	watcher, err := r.Watch(within(t), "shop")
	if err != nil {
		t.Fatal(err)
	}
	stopOne := start(t, r, "one")
	list := until(t, watcher, 1)
	if i := list[0]; i.ID != "one" || i.Version != "1" || len(i.Endpoints) != 2 || i.Metadata["team"] != "ops" || len(i.Metadata) != 1 {
		t.Errorf("%+v", i)
	}
	conn, err := kratosgrpc.DialInsecure(within(t), kratosgrpc.WithEndpoint("discovery:///shop"), kratosgrpc.WithDiscovery(r),
		kratosgrpc.WithTimeout(patience), kratosgrpc.WithOptions(grpc.WithDefaultCallOptions(grpc.WaitForReady(true))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	call := func(when string) {
		t.Helper()
		if _, err := healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{}); err != nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	call("one application")
	start(t, r, "two")
	until(t, watcher, 2)
	stopOne()
	until(t, watcher, 1)
	call("the other application")

	leases := leasesOf(t)
	link.Cut()
	for begun := time.Now(); time.Since(begun) < patience && stands(t, leases); {
		call("without etcd")
	}
	call("after its lease was lost")
	link.Heal()
	for deadline := time.Now().Add(patience); ; {
		s, err := discovery.Lookup(within(t), etcd.Client(t), "default", "shop")
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Instances) == 1 && s.Instances[0].ID == "two" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the instance does not come back")
		}
	}
	call("after the outage")
	if list, err := r.GetService(within(t), "shop"); err != nil || len(list) != 1 || list[0].ID != "two" {
		t.Errorf("%v, %v", list, err)
	}
	if err := watcher.Stop(); err != nil {
		t.Error(err)
	}
	if _, err := watcher.Next(); !errors.Is(err, context.Canceled) {
		t.Errorf("after Stop: %v", err)
	}
}

// leasesOf are those on which applications stand.
func leasesOf(t *testing.T) (all []clientv3.LeaseID) {
	t.Helper()
	for _, kv := range etcd.Dump(t, "/conclave/default/discovery/shop/instance/two") {
		all = append(all, clientv3.LeaseID(kv.Lease))
	}
	return all
}

func stands(t *testing.T, leases []clientv3.LeaseID) bool {
	t.Helper()
	for _, id := range leases {
		if resp, err := etcd.Client(t).TimeToLive(within(t), id); err != nil || resp.TTL > 0 {
			return true
		}
	}
	return false
}
