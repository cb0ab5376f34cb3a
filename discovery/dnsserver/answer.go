package dnsserver

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/conclavehq/conclave/discovery"
)

// TTL is how long others may remember an answer, in seconds.
const TTL = 2

const (
	defaultNamespace = "default"
	serviceLabel     = "service"
	addrLabel        = "addr"
	maxText          = 255 // bytes in one string of a TXT record
)

// answer fills in the answer to a question.
func (s *Server) answer(m *dns.Msg, q dns.Question) {
	name := dns.CanonicalName(q.Name)
	switch {
	case q.Qclass != dns.ClassINET && q.Qclass != dns.ClassANY, !dns.IsSubDomain(s.domain, name):
		m.Rcode, m.Authoritative = dns.RcodeRefused, false
		return
	case name == s.domain:
		if q.Qtype == dns.TypeSOA || q.Qtype == dns.TypeANY {
			m.Answer = append(m.Answer, s.soa())
		}
	default:
		labels := dns.SplitDomainName(strings.TrimSuffix(name, s.domain))
		if len(labels) == 2 && labels[1] == addrLabel {
			s.byAddress(m, q, labels[0])
		} else {
			s.service(m, q, labels)
		}
	}
	if len(m.Answer) == 0 && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) {
		m.Ns = append(m.Ns, s.soa()) // for how long nothing may be remembered
	}
}

func (s *Server) soa() dns.RR {
	return &dns.SOA{Hdr: header(s.domain, dns.TypeSOA), Ns: "ns." + s.domain, Mbox: "hostmaster." + s.domain,
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: TTL}
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: TTL}
}

// parse returns the service and the namespace that labels name; ok is false if
// they can name none. An empty service is a name between others.
func parse(labels []string) (namespace, service string, ok bool) {
	namespace = defaultNamespace
	at := len(labels) - 1
	if at >= 1 && labels[at] != serviceLabel {
		namespace = labels[at]
		at--
	}
	if at < 0 || labels[at] != serviceLabel {
		return "", "", false
	}
	rest := slices.Clone(labels[:at])
	if len(rest) >= 2 && strings.HasPrefix(rest[0], "_") && (rest[1] == "_tcp" || rest[1] == "_udp") {
		if len(rest) > 2 { // _http._tcp.web: the first says no more than the rest
			rest = rest[2:]
		} else {
			rest = []string{rest[0][1:]}
		}
	}
	slices.Reverse(rest)
	return namespace, strings.Join(rest, "/"), true
}

// service answers a question about a service.
func (s *Server) service(m *dns.Msg, q dns.Question, labels []string) {
	namespace, service, ok := parse(labels)
	if !ok {
		m.Rcode = dns.RcodeNameError
		return
	}
	if service == "" {
		return // something is below it
	}
	snap, err := s.snapshot(namespace, service)
	switch {
	case err != nil:
		s.cfg.Log.Debug("a service is not known", "service", service, "error", err)
		m.Rcode, m.Authoritative = dns.RcodeServerFailure, false
	case len(snap.Instances)+len(snap.Others) == 0:
		m.Rcode = dns.RcodeNameError
	default:
		s.records(m, q, snap)
	}
}

func (s *Server) snapshot(namespace, service string) (*discovery.Snapshot, error) {
	r := s.resolver(namespace)
	if r == nil {
		return nil, discovery.ErrClosed
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return r.Resolve(ctx, service)
}

// records adds what the instances have of the kind that was asked for.
func (s *Server) records(m *dns.Msg, q dns.Question, snap *discovery.Snapshot) {
	all := slices.Clone(snap.Instances)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	seen := map[string]bool{}
	for k := range all {
		host, port, err := net.SplitHostPort(all[k].Addr)
		if err != nil {
			continue
		}
		ip, _ := netip.ParseAddr(host)
		ip = ip.Unmap()
		if wants(q, dns.TypeA) || wants(q, dns.TypeAAAA) {
			if rr := address(q.Name, ip); rr != nil && wants(q, rr.Header().Rrtype) && !seen[host] {
				seen[host] = true
				m.Answer = append(m.Answer, rr)
			}
		}
		if wants(q, dns.TypeSRV) {
			s.srv(m, q, &all[k], host, port, ip)
		}
		if wants(q, dns.TypeTXT) {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: header(q.Name, dns.TypeTXT), Txt: text(&all[k])})
		}
	}
	if len(m.Answer) == 0 && (q.Qtype == dns.TypeA || q.Qtype == dns.TypeAAAA || q.Qtype == dns.TypeCNAME) {
		alias(m, q, all)
	}
}

// alias answers with the name of one instance, if none has an address.
func alias(m *dns.Msg, q dns.Question, all []discovery.Instance) {
	for k := range all {
		host, _, err := net.SplitHostPort(all[k].Addr)
		if _, e := netip.ParseAddr(host); err != nil || e == nil {
			return
		}
	}
	if len(all) > 0 {
		host, _, _ := net.SplitHostPort(all[0].Addr) // as seen above
		if _, ok := dns.IsDomainName(host); ok {
			m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(q.Name, dns.TypeCNAME), Target: dns.Fqdn(host)})
		}
	}
}

func wants(q dns.Question, t uint16) bool { return q.Qtype == t || q.Qtype == dns.TypeANY }

func (s *Server) srv(m *dns.Msg, q dns.Question, i *discovery.Instance, host, port string, ip netip.Addr) {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return
	}
	target := dns.Fqdn(host)
	if ip.IsValid() {
		target = hex.EncodeToString(ip.AsSlice()) + "." + addrLabel + "." + s.domain
		m.Extra = append(m.Extra, address(target, ip))
	} else if _, ok := dns.IsDomainName(host); !ok {
		return
	}
	m.Answer = append(m.Answer, &dns.SRV{Hdr: header(q.Name, dns.TypeSRV), Priority: 1,
		Weight: uint16(min(i.Weight, discovery.MaxWeight)), Port: uint16(n), Target: target}) //nolint:gosec // at most 65,535
}

// address is an address as a record, nil if it is none.
func address(name string, ip netip.Addr) dns.RR {
	switch {
	case ip.Is4():
		return &dns.A{Hdr: header(name, dns.TypeA), A: ip.AsSlice()}
	case ip.Is6():
		return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: ip.AsSlice()}
	}
	return nil
}

// byAddress answers a question about a name to which an SRV record led.
func (s *Server) byAddress(m *dns.Msg, q dns.Question, label string) {
	b, err := hex.DecodeString(label)
	ip, ok := netip.AddrFromSlice(b)
	if err != nil || !ok {
		m.Rcode = dns.RcodeNameError
		return
	}
	if rr := address(q.Name, ip); wants(q, rr.Header().Rrtype) {
		m.Answer = append(m.Answer, rr)
	}
}

// text is what a TXT record says of an instance.
func text(i *discovery.Instance) []string {
	all := []string{"id=" + i.ID}
	for _, kv := range [][2]string{{"zone", i.Zone}, {"version", i.Version}} {
		if kv[1] != "" {
			all = append(all, kv[0]+"="+kv[1])
		}
	}
	first := len(all)
	for k, v := range i.Metadata {
		all = append(all, k+"="+v)
	}
	slices.Sort(all[first:])
	for k := range all {
		all[k] = escaped(all[k])
	}
	return slices.DeleteFunc(all, func(s string) bool { return len(s) > maxText })
}

// escaped is a text as the library wants it: a backslash begins an escape.
func escaped(s string) string {
	return strings.ReplaceAll(s, `\`, `\\`)
}
