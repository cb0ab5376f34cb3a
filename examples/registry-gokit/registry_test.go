package gokitregistry

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/go-kit/kit/endpoint"
	"github.com/go-kit/kit/sd"
	"github.com/go-kit/kit/sd/lb"
	kithttp "github.com/go-kit/kit/transport/http"
	"github.com/go-kit/log"
	clientv3 "go.etcd.io/etcd/client/v3"

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

// server is a Go kit service that says its name.
func server(t *testing.T, name string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(kithttp.NewServer(
		func(context.Context, any) (any, error) { return name, nil },
		kithttp.NopRequestDecoder,
		func(_ context.Context, w http.ResponseWriter, resp any) error {
			_, err := io.WriteString(w, resp.(string))
			return err
		}))
	t.Cleanup(s.Close)
	return s
}

// factory makes Go kit's client of an address.
func factory(addr string) (endpoint.Endpoint, io.Closer, error) {
	return kithttp.NewClient(http.MethodGet, &url.URL{Scheme: "http", Host: addr}, kithttp.EncodeJSONRequest,
		func(_ context.Context, resp *http.Response) (any, error) {
			b, err := io.ReadAll(resp.Body)
			return string(b), err
		}).Endpoint(), nil, nil
}

func registrar(t *testing.T, c *clientv3.Client) *discovery.Registrar {
	t.Helper()
	s, err := core.NewSession(within(t), c, core.WithTTL(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return discovery.NewRegistrar(s)
}

// Go kit's balancer finds services that come and go, and calls them on through an
// outage of etcd that lasts longer than their leases.
func TestGoKitRidesThroughAnOutage(t *testing.T) {
	link := etcd.Link(t)
	c := coretest.Dial(t, link.Endpoint())
	resolver := discovery.NewResolver(c)
	defer resolver.Close()
	instancer := NewInstancer(resolver, "shop")
	defer instancer.Stop()
	endpointer := sd.NewEndpointer(instancer, factory, log.NewNopLogger())
	defer endpointer.Close()
	balancer := lb.NewRoundRobin(endpointer)
	// names returns who answers.
	names := func() map[string]bool {
		all := map[string]bool{}
		endpoints, err := endpointer.Endpoints()
		if err != nil {
			t.Fatal(err)
		}
		for range endpoints {
			call, err := balancer.Endpoint()
			if err != nil {
				t.Fatal(err)
			}
			name, err := call(within(t), nil)
			if err != nil {
				t.Errorf("a call failed: %v", err)
			}
			all[fmt.Sprint(name)] = true
		}
		return all
	}
	until := func(want ...string) {
		t.Helper()
		for deadline := time.Now().Add(patience); ; {
			got := names()
			ok := len(got) == len(want)
			for _, w := range want {
				ok = ok && got[w]
			}
			if ok {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%v answer, want %v", got, want)
			}
		}
	}
	reg := registrar(t, c)
	one, two := server(t, "one"), server(t, "two")
	first := NewRegistrar(reg, discovery.Instance{Service: "shop", ID: "one", Addr: one.Listener.Addr().String()}, log.NewNopLogger())
	second := NewRegistrar(reg, discovery.Instance{Service: "shop", ID: "two", Addr: two.Listener.Addr().String()}, log.NewNopLogger())
	first.Register()
	until("one")
	second.Register()
	until("one", "two")
	first.Deregister()
	until("two")

	lease := leaseOf(t)
	link.Cut()
	for begun := time.Now(); time.Since(begun) < patience && stands(t, lease); {
		until("two")
	}
	third := NewRegistrar(reg, discovery.Instance{Service: "shop", ID: "one", Addr: one.Listener.Addr().String()}, log.NewNopLogger())
	third.Register() // nobody hears of it yet
	until("two")
	link.Heal()
	until("one", "two")
	third.Deregister()
	second.Deregister()
	for deadline := time.Now().Add(patience); ; {
		if _, err := balancer.Endpoint(); err != nil {
			break // nobody is left
		}
		if time.Now().After(deadline) {
			t.Fatal("those who left are called on")
		}
	}
}

func leaseOf(t *testing.T) clientv3.LeaseID {
	t.Helper()
	kvs := etcd.Dump(t, "/conclave/default/discovery/shop/instance/two")
	if len(kvs) != 1 {
		t.Fatalf("%d records", len(kvs))
	}
	return clientv3.LeaseID(kvs[0].Lease)
}

func stands(t *testing.T, id clientv3.LeaseID) bool {
	t.Helper()
	resp, err := etcd.Client(t).TimeToLive(within(t), id)
	return err != nil || resp.TTL > 0
}
