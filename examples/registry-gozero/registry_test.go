package gozeroregistry

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/zeromicro/go-zero/core/conf"
	"github.com/zeromicro/go-zero/core/logx"
	"github.com/zeromicro/go-zero/zrpc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
)

const patience = time.Minute

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// server runs zrpc's server, with its health service, and returns its address.
func server(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var c zrpc.RpcServerConf
	if err := conf.LoadFromJsonBytes([]byte(`{"Name":"shop","ListenOn":"`+addr+`","Health":true,"Log":{"Mode":"console","Level":"severe"},"DevServer":{"Enabled":false}}`), &c); err != nil {
		t.Fatal(err)
	}
	s := zrpc.MustNewServer(c, func(*grpc.Server) {})
	go s.Start()
	t.Cleanup(s.Stop)
	return addr
}

// zrpc's client finds zrpc's servers that come and go, and calls them on through an
// outage of etcd that lasts longer than their leases.
func TestZRPCRidesThroughAnOutage(t *testing.T) {
	logx.Disable()
	etcd := coretest.StartEtcd(t)
	link := etcd.Link(t)
	c := coretest.Dial(t, link.Endpoint())
	s, err := core.NewSession(within(t), c, core.WithTTL(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	registrar, resolver := discovery.NewRegistrar(s), discovery.NewResolver(c)
	defer resolver.Close()
	one, two := server(t), server(t)
	first := NewPublisher(registrar, discovery.Instance{Service: "shop", ID: "one", Addr: one})
	second := NewPublisher(registrar, discovery.Instance{Service: "shop", ID: "two", Addr: two})
	if err := first.KeepAlive(within(t)); err != nil {
		t.Fatal(err)
	}
	sub, err := NewSubscriber(within(t), resolver, "shop")
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	changed := make(chan struct{}, 100)
	sub.AddListener(func() { changed <- struct{}{} })

	client, err := zrpc.NewClient(zrpc.RpcClientConf{Target: Scheme + ":///shop", NonBlock: true, Timeout: 10_000,
		Middlewares: zrpc.RpcClientConf{}.Middlewares}, WithResolver(resolver))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Conn().Close()
	// call returns who answered.
	call := func() string {
		t.Helper()
		var p peer.Peer
		_, err := healthpb.NewHealthClient(client.Conn()).Check(within(t), &healthpb.HealthCheckRequest{}, grpc.WaitForReady(true), grpc.Peer(&p))
		if err != nil {
			t.Fatalf("a call failed: %v", err)
		}
		return p.Addr.String()
	}
	until := func(want ...string) {
		t.Helper()
		slices.Sort(want)
		seen := map[string]time.Time{}
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			seen[call()] = time.Now()
			var got []string
			for addr, at := range seen {
				if time.Since(at) < 500*time.Millisecond {
					got = append(got, addr)
				}
			}
			if slices.Sort(got); slices.Equal(got, want) {
				return
			}
		}
		t.Fatalf("%v answered, want %v", seen, want)
	}
	until(one)
	if err := second.KeepAlive(within(t)); err != nil {
		t.Fatal(err)
	}
	until(one, two)
	<-changed
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	until(two)
	if v := sub.Values(); len(v) != 1 || v[0] != two {
		t.Errorf("values %v, want %s", v, two)
	}

	kvs := etcd.Dump(t, "/conclave/default/discovery/shop/instance/two")
	if len(kvs) != 1 {
		t.Fatalf("%d records", len(kvs))
	}
	link.Cut()
	for begun := time.Now(); time.Since(begun) < patience && stands(t, etcd, clientv3.LeaseID(kvs[0].Lease)); {
		until(two)
	}
	until(two)
	link.Heal()
	if err := first.KeepAlive(within(t)); err != nil {
		t.Fatal(err)
	}
	until(one, two)
	if err := second.Pause(within(t)); err != nil {
		t.Fatal(err)
	}
	until(one)
	if err := second.Resume(within(t)); err != nil {
		t.Fatal(err)
	}
	until(one, two)
}

func stands(t *testing.T, etcd *coretest.Etcd, id clientv3.LeaseID) bool {
	t.Helper()
	resp, err := etcd.Client(t).TimeToLive(within(t), id)
	return err != nil || resp.TTL > 0
}
