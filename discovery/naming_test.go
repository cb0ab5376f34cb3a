package discovery_test

import (
	"net"
	"net/http"
	"testing"

	"go.etcd.io/etcd/client/v3/naming/endpoints"
	etcdresolver "go.etcd.io/etcd/client/v3/naming/resolver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
)

// listed are the addresses that etcd's own client finds.
func listed(t *testing.T, service string) map[string]endpoints.Endpoint {
	t.Helper()
	m := must[endpoints.Manager](t)(endpoints.NewManager(etcd.Client(t), "naming/"+service))
	return must[endpoints.Key2EndpointMap](t)(m.List(within(t)))
}

func TestEtcdsOwnResolverReadsTheSame(t *testing.T) {
	service := etcd.Prefix(t)
	r := registrar(t, discovery.WithNaming("naming/"))
	g := registered(t, r, discovery.Instance{Service: service, ID: "a", Addr: "h:80", Metadata: map[string]string{"k": "v"}})
	e, ok := listed(t, service)["naming/"+service+"/a"]
	if !ok || e.Addr != "h:80" || e.Metadata.(map[string]any)["k"] != "v" {
		t.Errorf("etcd's list: %+v", e)
	}
	for _, state := range []discovery.State{discovery.Maintenance, ""} {
		if err := discovery.Mark(within(t), etcd.Client(t), "default", service, "a", state, "ada"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "mark "+string(state), func() bool { return len(listed(t, service)) == 1 == (state == "") })
	}
	if err := g.Deregister(); err != nil {
		t.Fatal(err)
	}
	if list := listed(t, service); len(list) != 0 {
		t.Errorf("after Deregister: %+v", list)
	}
}

// What hosts find counts for etcd's readers too.
func TestEtcdsOwnResolverAndChecks(t *testing.T) {
	service, web := etcd.Prefix(t), newClinic(t)
	checking(t, etcd.Client(t))
	registered(t, registrar(t, discovery.WithNaming("naming/")), web.checked(service, 1))
	eventually(t, "listed once it is known to be well", func() bool { return len(listed(t, service)) == 1 })
	web.code.Store(http.StatusInternalServerError)
	eventually(t, "not listed while it is ill", func() bool { return len(listed(t, service)) == 0 })
}

// A gRPC client with etcd's own resolver calls what was registered here, and calls
// it on when its lease was lost.
func TestEtcdsOwnResolverInAClient(t *testing.T) {
	service := etcd.Prefix(t)
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	g := registered(t, registrar(t, discovery.WithNaming("naming/")), discovery.Instance{Service: service, ID: "a", Addr: l.Addr().String()})
	b, err := etcdresolver.NewBuilder(etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	conn := must[*grpc.ClientConn](t)(grpc.NewClient("etcd:///naming/"+service, grpc.WithResolvers(b), grpc.WithTransportCredentials(insecure.NewCredentials())))
	t.Cleanup(func() { _ = conn.Close() })
	call := func() {
		t.Helper()
		must[*healthpb.HealthCheckResponse](t)(healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true)))
	}
	call()
	before := stands(t, service, "a")
	coretest.ExpireLease(t, etcd.Client(t), leaseOf(before))
	eventually(t, "put again", func() bool {
		kv := stands(t, service, "a")
		return kv != nil && kv.ModRevision > before.ModRevision && len(listed(t, service)) == 1
	})
	call()
	if err := g.Deregister(); err != nil {
		t.Fatal(err)
	}
}
