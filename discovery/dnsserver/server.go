// Package dnsserver answers DNS questions about services that are registered with
// package discovery: A, AAAA, SRV and TXT, over UDP and TCP.
//
// # Names
//
// A service web is web.service.conclave, and shop/web is web.shop.service.conclave,
// as names in DNS grow to the left. One of another namespace than default is
// web.service.team.conclave. For SRV there is also _web._tcp.service.conclave. The
// last label is the server's domain. Names are compared in lower case, as DNS does:
// services with capitals in their names are not found.
//
// # Answers
//
// Only instances that can be sent to are answered, in a random order, for at most
// [TTL]. An SRV answer brings the addresses with it. A service that nobody has
// registered is NXDOMAIN; one without an instance that can be sent to, or without
// an address of the kind that was asked for, is an empty answer. While etcd is
// away what was known is answered; what was never known is SERVFAIL, not NXDOMAIN,
// which others would remember.
package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// DefaultDomain is the domain of a server that is given none.
const DefaultDomain = "conclave"

const (
	// patience is how long a question waits for etcd, the first time.
	patience = 2 * time.Second
	// idle is how long a service is followed that nobody asks for.
	idle = 5 * time.Minute
	// maxNamespaces bounds what strangers can make the server remember.
	maxNamespaces = 100
	// udpSize is what passes every network in one piece.
	udpSize = 1232
)

// Config says what a server answers, and where.
type Config struct {
	Client *clientv3.Client // reaches etcd
	Listen string           // host:port, for UDP and TCP; port 0 takes a free one
	Domain string           // without dots at its ends; empty: [DefaultDomain]
	Log    *slog.Logger     // nil: silent
}

// A Server answers until it is closed.
type Server struct {
	cfg    Config
	domain string // with a dot at its end
	udp    *dns.Server
	tcp    *dns.Server
	addr   string
	done   sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	resolvers map[string]*discovery.Resolver // by namespace
}

// Start binds both sockets and serves. The error is core.ErrInvalid, or the
// system's.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Domain == "" {
		cfg.Domain = DefaultDomain
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if _, ok := dns.IsDomainName(cfg.Domain); !ok || strings.HasPrefix(cfg.Domain, ".") {
		return nil, fmt.Errorf("dns: %w: domain: %.255q is no domain", core.ErrInvalid, cfg.Domain)
	}
	s := &Server{cfg: cfg, domain: dns.CanonicalName(cfg.Domain), resolvers: make(map[string]*discovery.Resolver)}
	packets, listener, err := bind(ctx, cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	s.addr = listener.Addr().String()
	s.udp = &dns.Server{PacketConn: packets, Handler: s}
	s.tcp = &dns.Server{Listener: listener, Handler: s}
	for _, d := range []*dns.Server{s.udp, s.tcp} {
		// A server that is shut down before it has begun would never end.
		begun := make(chan struct{})
		d.NotifyStartedFunc = func() { close(begun) }
		s.done.Go(func() {
			if err := d.ActivateAndServe(); err != nil && !errors.Is(err, net.ErrClosed) {
				s.cfg.Log.Error("DNS is served no more", "error", err)
			}
		})
		<-begun
	}
	return s, nil
}

// bind takes the same port for both.
func bind(ctx context.Context, addr string) (net.PacketConn, net.Listener, error) {
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	packets, err := lc.ListenPacket(ctx, "udp", listener.Addr().String())
	if err != nil {
		listener.Close()
		return nil, nil, err
	}
	return packets, listener, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.addr }

// Close ends the server, after the answers that are under way. It is idempotent.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	resolvers := s.resolvers
	s.resolvers = nil
	s.mu.Unlock()
	err := errors.Join(s.udp.Shutdown(), s.tcp.Shutdown())
	s.done.Wait()
	for _, r := range resolvers {
		err = errors.Join(err, r.Close())
	}
	return err
}

// ServeDNS answers one question.
func (s *Server) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	m := new(dns.Msg)
	m.SetReply(req)
	m.Authoritative = true
	size := dns.MaxMsgSize
	if _, udp := w.RemoteAddr().(*net.UDPAddr); udp {
		size = dns.MinMsgSize
	}
	if opt := req.IsEdns0(); opt != nil {
		m.SetEdns0(udpSize, false)
		if size == dns.MinMsgSize {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), udpSize)
		}
	}
	switch {
	case req.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
	case len(req.Question) != 1:
		m.Rcode = dns.RcodeFormatError
	default:
		s.answer(m, req.Question[0])
	}
	m.Compress = true
	m.Truncate(size)
	if err := w.WriteMsg(m); err != nil {
		s.cfg.Log.Debug("an answer was not sent", "error", err)
	}
}

// resolver returns the resolver of a namespace.
func (s *Server) resolver(namespace string) *discovery.Resolver {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.resolvers[namespace]
	if r == nil && !s.closed && len(s.resolvers) < maxNamespaces && keyspace.CheckNamespace("namespace", namespace) == nil {
		r = discovery.NewResolver(s.cfg.Client, discovery.WithNamespace(namespace), discovery.WithIdle(idle), discovery.WithLogger(s.cfg.Log))
		s.resolvers[namespace] = r
	}
	return r
}
