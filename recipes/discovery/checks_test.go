package discovery_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/discovery"
	discoveryrecipe "github.com/conclavehq/conclave/recipes/discovery"
)

// A host carries out the checks of instances that were registered over the API,
// within what the guard lets a recipe do.
func TestAHostCarriesOutChecks(t *testing.T) {
	var code atomic.Int64
	code.Store(http.StatusOK)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) }))
	t.Cleanup(web.Close)
	h := startHostWith(t, etcd.Client(t), discoveryrecipe.Recipe{}, &discoveryv1.Config{CheckNetworks: []string{"127.0.0.0/8"}})
	startHostWith(t, etcd.Client(t), discoveryrecipe.Recipe{}, &discoveryv1.Config{ChecksOff: true})
	ada, _ := caller(t)
	service := strings.ReplaceAll(etcd.Prefix(t), "/", "-")
	reg := must[*discoveryv1.RegisterResponse](t)(h.Register(ada, &discoveryv1.RegisterRequest{Name: service, Id: "a", Addr: "h:80",
		Checks: []*discoveryv1.Check{{Url: web.URL, Interval: durationpb.New(time.Second), Rise: 1, Fall: 1}}}))
	stream := must[discoveryv1.DiscoveryService_WatchClient](t)(h.Watch(within(t), &discoveryv1.WatchRequest{Name: service}))
	until := func(state string) *discoveryv1.Instance {
		t.Helper()
		for {
			resp := must[*discoveryv1.WatchResponse](t)(stream.Recv())
			for _, i := range append(resp.GetInstances(), resp.GetOthers()...) {
				if i.GetState() == state && i.GetHealth() != nil {
					return i
				}
			}
		}
	}
	i := until("passing")
	if c := i.GetChecks(); len(c) != 1 || c[0].GetUrl() != web.URL || c[0].GetInterval().AsDuration() != time.Second || c[0].GetFall() != 1 ||
		c[0].GetTimeout().AsDuration() != time.Second || len(i.GetHealth().GetStates()) != 1 || i.GetHealth().GetAt() == nil {
		t.Errorf("%v", i)
	}
	code.Store(http.StatusBadGateway)
	if i := until("critical"); !strings.Contains(i.GetHealth().GetWhy(), "502") {
		t.Errorf("%v", i)
	}
	must[*discoveryv1.SetStateResponse](t)(h.SetState(ada, &discoveryv1.SetStateRequest{Name: service, Id: "a", State: "draining"}))
	if i := until("draining"); i.GetHealth().GetStates()[0] != "critical" {
		t.Errorf("what hosts found is lost: %v", i)
	}
	must[*discoveryv1.DeregisterResponse](t)(h.Deregister(ada, &discoveryv1.DeregisterRequest{Name: service, Id: "a", Token: reg.GetToken()}))
	for _, kv := range etcd.Dump(t, "/conclave/default/discovery/_check/on/") {
		if strings.Contains(string(kv.Key), service) {
			t.Errorf("left: %s", kv.Key)
		}
	}
	_, err := h.Register(ada, &discoveryv1.RegisterRequest{Name: service, Addr: "h:80", Checks: []*discoveryv1.Check{{Url: "exec:true"}}})
	want(t, err, codes.InvalidArgument, "invalid_checks", "a host runs no command")
}

// A host that stops while etcd is away does not wait for it.
func TestChecksEndWithoutEtcd(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(web.Close)
	link := etcd.Link(t)
	env := recipe.NewEnv("discovery", coretest.Dial(t, link.Endpoint()), &discoveryv1.Config{}, slog.New(slog.DiscardHandler))
	defer env.Close()
	i := must[recipe.Instance](t)((discoveryrecipe.Recipe{}).Open(within(t), env, grpc.NewServer()))
	s := must[*core.Session](t)(core.NewSession(within(t), etcd.Client(t)))
	t.Cleanup(func() { _ = s.Close() })
	service := etcd.Prefix(t)
	must[core.Token](t)(discovery.Announce(within(t), s, discovery.Instance{Service: service, ID: "a", Addr: "h:80", Checks: []discovery.HostCheck{{URL: web.URL}}}))
	r := discovery.NewResolver(etcd.Client(t))
	defer r.Close()
	for snap, err := range r.Watch(within(t), service) {
		if err != nil {
			t.Fatal(err)
		}
		if len(snap.Instances) == 1 { // a host owns the check
			break
		}
	}
	link.Blackhole(coretest.Both)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	closed := make(chan error, 1)
	go func() { closed <- i.Close(ctx) }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-within(t).Done():
		t.Error("it waits for etcd")
	}
	link.Heal()
}

// A caller's namespace is found by all hosts.
func TestChecksInACallersNamespace(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(web.Close)
	h := startHostWith(t, etcd.Client(t), discoveryrecipe.Recipe{}, nil)
	lease := must[*clientv3.LeaseGrantResponse](t)(etcd.Client(t).Grant(within(t), 60))
	c := recipe.Caller{Session: "s", Lease: lease.ID, TTL: time.Minute, Owner: "ada", Namespace: "team"}
	ada := metadata.NewOutgoingContext(within(t), c.Metadata())
	must[*discoveryv1.RegisterResponse](t)(h.Register(ada, &discoveryv1.RegisterRequest{Namespace: "team", Name: "web", Id: "a", Addr: "h:80",
		Checks: []*discoveryv1.Check{{Url: web.URL}}}))
	stream := must[discoveryv1.DiscoveryService_WatchClient](t)(h.Watch(within(t), &discoveryv1.WatchRequest{Namespace: "team", Name: "web"}))
	for {
		resp := must[*discoveryv1.WatchResponse](t)(stream.Recv())
		if len(resp.GetOthers()) == 1 && strings.Contains(resp.GetOthers()[0].GetHealth().GetWhy(), "404") {
			return
		}
	}
}

func TestConfigurationOfChecks(t *testing.T) {
	for field, c := range map[string]*discoveryv1.Config{"check_networks": {CheckNetworks: []string{"here"}}, "check_namespaces": {CheckNamespaces: []string{".."}}} {
		err := (discoveryrecipe.Recipe{}).Validate(c)
		if err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
		if _, err := (discoveryrecipe.Recipe{}).Open(within(t), recipe.NewEnv("discovery", nil, c, nil), nil); err == nil {
			t.Errorf("%s: it runs", field)
		}
	}
}
