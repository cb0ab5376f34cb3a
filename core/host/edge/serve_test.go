package edge_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core/host/edge"
	"github.com/conclavehq/conclave/core/host/split"
)

// A server is an edge behind a splitter, as a host has it.
type server struct {
	*echo

	edge  *edge.Edge
	split *split.Splitter
	grpc  *grpc.Server
	http  *http.Server
	addr  string
	roots *x509.CertPool // nil without TLS
	ended sync.WaitGroup
}

type serverOptions struct {
	tls      bool
	httpOnly bool
	edge     edge.Options
	names    []string
}

func start(tb testing.TB, options serverOptions) *server {
	tb.Helper()
	s := &server{echo: newEcho(tb)}
	if options.edge.Handler == nil {
		options.edge.Handler = s.handle
	}
	e, err := edge.New(options.edge)
	if err != nil {
		tb.Fatal(err)
	}
	if err := e.Set(s.sd); err != nil {
		tb.Fatal(err)
	}
	s.edge = e
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.addr = l.Addr().String()
	so := split.Options{HTTPOnly: options.httpOnly}
	if options.tls {
		so.TLS, s.roots = certificate(tb)
	}
	s.split = split.New(l, so)
	s.grpc = grpc.NewServer(grpc.Creds(split.Credentials()), grpc.UnknownServiceHandler(options.edge.Handler))
	s.http = newServer(edge.Protect(e, options.names...))
	s.ended.Go(func() { _ = s.grpc.Serve(s.split.GRPC()) })
	s.ended.Go(func() { _ = s.http.Serve(s.split.HTTP()) })
	tb.Cleanup(s.stop)
	return s
}

func newServer(h http.Handler) *http.Server {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	p.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: h, Protocols: p, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
}

func (s *server) stop() {
	_ = s.split.Close()
	s.grpc.Stop()
	_ = s.http.Close()
	s.ended.Wait()
}

func (s *server) url() string {
	if s.roots != nil {
		return "https://" + s.addr
	}
	return "http://" + s.addr
}

// A transport is a way to reach the server.
type transport string

const (
	http1 transport = "http1"
	http2 transport = "http2" // h2c, or h2 over TLS
)

func (s *server) client(tb testing.TB, over transport) *http.Client {
	tb.Helper()
	p := new(http.Protocols)
	// Over TLS a client that offers HTTP/2 alone is taken for one of gRPC.
	p.SetHTTP1(over == http1 || s.roots != nil)
	p.SetHTTP2(over == http2)
	p.SetUnencryptedHTTP2(over == http2 && s.roots == nil)
	t := &http.Transport{Protocols: p, DisableCompression: true, ForceAttemptHTTP2: over == http2}
	if s.roots != nil {
		t.TLSClientConfig = &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12}
	}
	tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

// certificate makes a server's configuration and what a client trusts.
func certificate(tb testing.TB) (*tls.Config, *x509.CertPool) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "edge test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}, roots
}

// within bounds a step of a test that hangs when it fails.
func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeoutCause(tb.Context(), 20*time.Second, errors.New("the test waited too long"))
	tb.Cleanup(cancel)
	return ctx
}
