package dnsserver_test

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/discovery/dnsserver"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

const patience = 30 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func start(t *testing.T, c *clientv3.Client) *dnsserver.Server {
	t.Helper()
	s := must[*dnsserver.Server](t)(dnsserver.Start(within(t), dnsserver.Config{Client: c, Listen: "127.0.0.1:0"}))
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// registrar registers in a namespace of the test's own.
func registrar(t *testing.T, namespace string) *discovery.Registrar {
	t.Helper()
	s := must[*core.Session](t)(core.NewSession(within(t), etcd.Client(t), core.WithNamespace(namespace)))
	t.Cleanup(func() { _ = s.Close() })
	return discovery.NewRegistrar(s)
}

func register(t *testing.T, r *discovery.Registrar, i discovery.Instance) *discovery.Registration {
	t.Helper()
	return must[*discovery.Registration](t)(r.Register(within(t), i))
}

// ask asks over UDP or TCP, and returns the code and the answers, sorted.
func ask(t *testing.T, s *dnsserver.Server, network, name string, kind uint16) (*dns.Msg, string) {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, kind)
	c := &dns.Client{Net: network, Timeout: patience}
	m, _, err := c.ExchangeContext(within(t), q, s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, rr := range m.Answer {
		text := strings.TrimPrefix(rr.String(), rr.Header().String())
		all = append(all, dns.TypeToString[rr.Header().Rrtype]+" "+text)
		if rr.Header().Ttl > dnsserver.TTL {
			t.Errorf("%s: TTL %d", name, rr.Header().Ttl)
		}
	}
	slices.Sort(all)
	return m, dns.RcodeToString[m.Rcode] + ": " + strings.Join(all, "; ")
}

func TestAnswers(t *testing.T) {
	s, r := start(t, etcd.Client(t)), registrar(t, "answers")
	register(t, r, discovery.Instance{Service: "web", ID: "a", Addr: "10.0.0.1:80", Weight: 3, Zone: "z", Metadata: map[string]string{"k": "v\\"}})
	register(t, r, discovery.Instance{Service: "web", ID: "b", Addr: "[2001:db8::1]:81"})
	register(t, r, discovery.Instance{Service: "shop/web", ID: "a", Addr: "10.0.0.3:80"})
	register(t, r, discovery.Instance{Service: "named", ID: "a", Addr: "db-1.example.com:5432"})
	register(t, r, discovery.Instance{Service: "resting", Addr: "10.0.0.4:80", State: discovery.Maintenance})
	in := func(name string) string { return name + ".service.answers.conclave." }
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{in("web"), dns.TypeA, "NOERROR: A 10.0.0.1"},
		{in("WeB"), dns.TypeA, "NOERROR: A 10.0.0.1"},
		{in("web"), dns.TypeAAAA, "NOERROR: AAAA 2001:db8::1"},
		{in("web"), dns.TypeSRV, "NOERROR: SRV 1 1 81 20010db8000000000000000000000001.addr.conclave.; SRV 1 3 80 0a000001.addr.conclave."},
		{in("_web._tcp"), dns.TypeSRV, "NOERROR: SRV 1 1 81 20010db8000000000000000000000001.addr.conclave.; SRV 1 3 80 0a000001.addr.conclave."},
		{in("web"), dns.TypeTXT, `NOERROR: TXT "id=a" "zone=z" "k=v\\"; TXT "id=b"`},
		{in("web.shop"), dns.TypeA, "NOERROR: A 10.0.0.3"},
		{in("named"), dns.TypeA, "NOERROR: CNAME db-1.example.com."},
		{in("named"), dns.TypeSRV, "NOERROR: SRV 1 1 5432 db-1.example.com."},
		{in("web.shop"), dns.TypeAAAA, "NOERROR: "},
		{in("web"), dns.TypeMX, "NOERROR: "},
		{in("resting"), dns.TypeA, "NOERROR: "},
		{in("nobody"), dns.TypeA, "NXDOMAIN: "},
		{"nobody.service.conclave.", dns.TypeSRV, "NXDOMAIN: "},
		{"odd.conclave.", dns.TypeA, "NXDOMAIN: "},
		{"service.conclave.", dns.TypeA, "NOERROR: "},
		{"0a000001.addr.conclave.", dns.TypeA, "NOERROR: A 10.0.0.1"},
		{"0a000001.addr.conclave.", dns.TypeAAAA, "NOERROR: "},
		{"zz.addr.conclave.", dns.TypeA, "NXDOMAIN: "},
		{"example.com.", dns.TypeA, "REFUSED: "},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m, got := ask(t, s, network, c.name, c.kind)
			if got != c.want {
				t.Errorf("%s %s %s: %q, want %q", network, c.name, dns.TypeToString[c.kind], got, c.want)
			}
			if len(m.Answer) == 0 && m.Rcode != dns.RcodeRefused && (len(m.Ns) != 1 || m.Ns[0].Header().Rrtype != dns.TypeSOA) {
				t.Errorf("%s: no answer, and the authority is %v", c.name, m.Ns)
			}
			if c.kind == dns.TypeSRV && strings.HasPrefix(c.name, "web") && len(m.Extra) != 2 {
				t.Errorf("%s: additional %v", c.name, m.Extra)
			}
		}
	}
	if m, got := ask(t, s, "udp", "conclave.", dns.TypeSOA); !strings.HasPrefix(got, "NOERROR: SOA") || !m.Authoritative {
		t.Errorf("SOA: %s", got)
	}
}

func TestManyInstances(t *testing.T) {
	s, r := start(t, etcd.Client(t)), registrar(t, "many")
	for n := range 60 {
		register(t, r, discovery.Instance{Service: "web", Addr: fmt.Sprintf("10.0.0.%d:80", n+1)})
	}
	const name = "web.service.many.conclave."
	m, _ := ask(t, s, "udp", name, dns.TypeA)
	m.Compress = true // as it was on the way
	if !m.Truncated || len(m.Answer) == 0 || m.Len() > dns.MinMsgSize {
		t.Errorf("UDP: truncated %t, %d answers, %d bytes", m.Truncated, len(m.Answer), m.Len())
	}
	if m, _ := ask(t, s, "tcp", name, dns.TypeA); m.Truncated || len(m.Answer) != 60 {
		t.Errorf("TCP: truncated %t, %d answers", m.Truncated, len(m.Answer))
	}
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeA)
	q.SetEdns0(4096, false)
	c := &dns.Client{UDPSize: 4096, Timeout: patience}
	m, _, err := c.ExchangeContext(within(t), q, s.Addr())
	if err != nil || m.Truncated || len(m.Answer) != 60 || m.IsEdns0() == nil {
		t.Errorf("EDNS0: %v, %v", m, err)
	}
}

// What was never known is no answer, and what was known is one, without etcd.
func TestWithoutEtcd(t *testing.T) {
	l := etcd.Link(t)
	s, r := start(t, coretest.Dial(t, l.Endpoint())), registrar(t, "away")
	register(t, r, discovery.Instance{Service: "web", Addr: "10.0.0.1:80"})
	const known = "web.service.away.conclave."
	if _, got := ask(t, s, "udp", known, dns.TypeA); got != "NOERROR: A 10.0.0.1" {
		t.Errorf("before: %s", got)
	}
	l.Cut()
	if _, got := ask(t, s, "udp", known, dns.TypeA); got != "NOERROR: A 10.0.0.1" {
		t.Errorf("known: %s", got)
	}
	if _, got := ask(t, s, "tcp", "other.service.away.conclave.", dns.TypeA); got != "SERVFAIL: " {
		t.Errorf("not known: %s", got)
	}
}

func TestDig(t *testing.T) {
	dig, err := exec.LookPath("dig")
	if err != nil {
		t.Skip("dig is not installed")
	}
	s, r := start(t, etcd.Client(t)), registrar(t, "dig")
	register(t, r, discovery.Instance{Service: "web", Addr: "10.0.0.1:80"})
	host, port, _ := strings.Cut(s.Addr(), ":")
	for _, args := range [][]string{{"+short"}, {"+short", "+tcp"}} {
		args = append(args, "@"+host, "-p", port, "web.service.dig.conclave", "A")
		out := must[[]byte](t)(exec.CommandContext(within(t), dig, args...).Output()) //nolint:gosec // dig, and our own server
		if strings.TrimSpace(string(out)) != "10.0.0.1" {
			t.Errorf("dig %v: %s", args, out)
		}
	}
}

func TestWhatCannotBeServed(t *testing.T) {
	_, err := dnsserver.Start(within(t), dnsserver.Config{Client: etcd.Client(t), Listen: "127.0.0.1:0", Domain: "."})
	if err == nil {
		t.Error("a domain that is none is served")
	}
	s := start(t, etcd.Client(t))
	if _, err := dnsserver.Start(within(t), dnsserver.Config{Client: etcd.Client(t), Listen: s.Addr()}); err == nil {
		t.Error("an address is served twice")
	}
}
