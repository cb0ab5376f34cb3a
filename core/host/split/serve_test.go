package split_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conclavehq/conclave/core/host/split"
)

// A server is a splitter with both servers behind it. Each says who it is.
type server struct {
	*split.Splitter

	grpc  *grpc.Server
	http  *http.Server
	addr  string
	roots *x509.CertPool
	key   tls.Certificate
	ended sync.WaitGroup
}

const method = "/split.test/Who"

func start(tb testing.TB, options split.Options, secure bool) *server {
	tb.Helper()
	s := &server{}
	if secure {
		s.key, s.roots = certificate(tb)
		options.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.key}, ClientCAs: s.roots, ClientAuth: tls.VerifyClientCertIfGiven}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s.addr = l.Addr().String()
	s.Splitter = split.New(l, options)
	s.grpc = grpc.NewServer(grpc.Creds(split.Credentials()), grpc.UnknownServiceHandler(who))
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{Protocols: protocols, ReadHeaderTimeout: time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("X-Proto", r.Proto)
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
			w.Header().Set("X-Peer", r.TLS.PeerCertificates[0].SerialNumber.String())
		}
		_, _ = w.Write(append([]byte("http "), body...))
	})}
	s.ended.Go(func() { _ = s.grpc.Serve(s.GRPC()) })
	s.ended.Go(func() { _ = s.http.Serve(s.HTTP()) })
	tb.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	_ = s.Splitter.Close()
	s.grpc.Stop()
	_ = s.http.Close()
	s.ended.Wait()
}

// who answers with the kind of credentials, and with the client's certificate.
func who(_ any, stream grpc.ServerStream) error {
	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
		return err
	}
	p, _ := peer.FromContext(stream.Context())
	text := "grpc " + p.AuthInfo.AuthType()
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
		text += " " + info.State.PeerCertificates[0].SerialNumber.String()
	}
	return stream.SendMsg(wrapperspb.String(text))
}

// ask calls with grpc-go.
func (s *server) ask(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	var out wrapperspb.StringValue
	err := conn.Invoke(ctx, method, &emptypb.Empty{}, &out)
	return out.GetValue(), err
}

func (s *server) dial(tb testing.TB, certificates ...tls.Certificate) *grpc.ClientConn {
	tb.Helper()
	creds := insecure.NewCredentials()
	if s.roots != nil {
		creds = credentials.NewTLS(&tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12, Certificates: certificates})
	}
	conn, err := grpc.NewClient(s.addr, grpc.WithTransportCredentials(creds))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (s *server) client(tb testing.TB, setup func(*http.Protocols), certificates ...tls.Certificate) *http.Client {
	tb.Helper()
	p := new(http.Protocols)
	setup(p)
	t := &http.Transport{Protocols: p}
	if s.roots != nil {
		t.TLSClientConfig = &tls.Config{RootCAs: s.roots, MinVersion: tls.VersionTLS12, Certificates: certificates}
	}
	tb.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t}
}

func certificate(tb testing.TB) (tls.Certificate, *x509.CertPool) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(4711), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
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
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

// within bounds a step of a test that hangs when it fails.
func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeoutCause(tb.Context(), 20*time.Second, errors.New("the test waited too long"))
	tb.Cleanup(cancel)
	return ctx
}
