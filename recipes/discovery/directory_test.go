package discovery_test

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	discoveryrecipe "github.com/conclavehq/conclave/recipes/discovery"
)

// group is what Prometheus reads.
type group struct {
	Targets []string          `json:"targets"`
	Labels  map[string]string `json:"labels"`
}

// ask asks a directory as Prometheus does.
func ask(t *testing.T, d *discoveryrecipe.Directory, query string) (int, []group) {
	t.Helper()
	w := httptest.NewRecorder()
	d.ServeHTTP(w, httptest.NewRequestWithContext(within(t), http.MethodGet, "/sd/prometheus?"+query, http.NoBody))
	var all []group
	if w.Code == http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil || all == nil || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, %v", query, w.Body, err)
		}
	}
	return w.Code, all
}

func TestPrometheus(t *testing.T) {
	l, d := etcd.Link(t), new(discoveryrecipe.Directory)
	if code, _ := ask(t, d, "service=web"); code != http.StatusServiceUnavailable {
		t.Errorf("before it is open: %d", code)
	}
	h := startHostWith(t, coretest.Dial(t, l.Endpoint()), discoveryrecipe.Recipe{Directory: d}, nil)
	service := strings.ReplaceAll(etcd.Prefix(t), "/", "-")
	ada, _ := caller(t)
	must[*discoveryv1.RegisterResponse](t)(h.Register(ada, &discoveryv1.RegisterRequest{Name: service, Id: "a", Addr: "h:80", Zone: "z", Tags: []string{"x", "y"},
		Metadata: map[string]string{"team-name": "ops"}}))
	must[*discoveryv1.RegisterResponse](t)(h.Register(ada, &discoveryv1.RegisterRequest{Name: service, Id: "b", Addr: "h:81", State: "draining"}))
	want := []group{{[]string{"h:80"}, map[string]string{"__meta_conclave_namespace": "default", "__meta_conclave_service": service, "__meta_conclave_id": "a",
		"__meta_conclave_state": "passing", "__meta_conclave_zone": "z", "__meta_conclave_tags": ",x,y,", "__meta_conclave_metadata_team_name": "ops"}}}
	if code, got := ask(t, d, "service="+service); code != http.StatusOK || !reflect.DeepEqual(got, want) {
		t.Errorf("%d, %+v", code, got)
	}
	if _, got := ask(t, d, ""); len(got) == 0 {
		t.Error("all services are none")
	}
	if code, got := ask(t, d, "service=nobody"); code != http.StatusOK || len(got) != 0 {
		t.Errorf("an unknown service: %d, %+v", code, got)
	}
	if code, _ := ask(t, d, "service=a//b"); code != http.StatusBadRequest {
		t.Errorf("no name: %d", code)
	}
	l.Cut()
	if code, got := ask(t, d, "service="+service); code != http.StatusOK || !reflect.DeepEqual(got, want) {
		t.Errorf("just after etcd went: %d, %+v", code, got)
	}
	if code, _ := ask(t, d, "service=never-asked"); code != http.StatusServiceUnavailable {
		t.Errorf("without etcd: %d", code)
	}
}

func TestDNS(t *testing.T) {
	listener := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	addr := listener.Addr().String()
	listener.Close()
	h := startHostWith(t, etcd.Client(t), discoveryrecipe.Recipe{}, &discoveryv1.Config{DnsListen: addr, DnsDomain: "test"})
	ada, _ := caller(t)
	must[*discoveryv1.RegisterResponse](t)(h.Register(ada, &discoveryv1.RegisterRequest{Name: "dns", Addr: "10.0.0.1:80"}))
	q := new(dns.Msg)
	q.SetQuestion("dns.service.test.", dns.TypeA)
	m, err := dns.ExchangeContext(within(t), q, addr)
	if err != nil || len(m.Answer) != 1 {
		t.Errorf("%v, %v", m, err)
	}
	if _, err := (discoveryrecipe.Recipe{}).Open(within(t), recipe.NewEnv("discovery", nil, &discoveryv1.Config{DnsListen: addr}, nil), nil); err == nil {
		t.Error("an address in use is taken")
	}
	for field, c := range map[string]*discoveryv1.Config{"dns_listen": {DnsListen: "here"}, "dns_domain": {DnsDomain: ".x."}} {
		if err := (discoveryrecipe.Recipe{}).Validate(c); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := (discoveryrecipe.Recipe{}).Validate(nil); err != nil {
		t.Error(err)
	}
}
