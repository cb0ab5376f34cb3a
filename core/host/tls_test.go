package host_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/host"
)

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return authority{cert: must[*x509.Certificate](t)(x509.ParseCertificate(der)), key: key}
}

// sign returns a certificate for this machine's loopback.
func (a authority) sign(t *testing.T, name string, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// files writes a certificate and its key, and the authority's, as PEM.
func (a authority) files(t *testing.T, c tls.Certificate) host.TLS {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(c.PrivateKey))
	return host.TLS{Cert: write("cert.pem", "CERTIFICATE", c.Certificate[0]), Key: write("key.pem", "PRIVATE KEY", key), CA: write("ca.pem", "CERTIFICATE", a.cert.Raw)}
}

// overTLS returns an HTTP client of one version. The one of HTTP/2 offers both, as
// browsers and curl do: who offers HTTP/2 alone is taken for a gRPC client.
func overTLS(t *testing.T, cfg *tls.Config, major int) *http.Client {
	t.Helper()
	only := new(http.Protocols)
	only.SetHTTP1(true)
	only.SetHTTP2(major == 2)
	transport := &http.Transport{TLSClientConfig: cfg.Clone(), Protocols: only}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// openOver opens a session by a native gRPC call.
func openOver(t *testing.T, h *host.Host, creds credentials.TransportCredentials) error {
	t.Helper()
	conn := must[*grpc.ClientConn](t)(grpc.NewClient(strings.TrimPrefix(h.API(), "https://"), grpc.WithTransportCredentials(creds)))
	t.Cleanup(func() { _ = conn.Close() })
	_, err := sessionv1.NewSessionServiceClient(conn).Open(within(t), &sessionv1.OpenRequest{})
	return err
}

// A listener with TLS serves every form of a call, and whoever speaks plaintext
// learns nothing from it. The administrator's socket needs no certificate.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg := config(t)
	cfg.TLS = ca.files(t, ca.sign(t, "host", x509.ExtKeyUsageServerAuth))
	cfg.TLS.CA = "" // nobody else's certificate is asked for
	h := start(t, cfg)
	if !strings.HasPrefix(h.API(), "https://") {
		t.Errorf("the API is at %s", h.API())
	}
	trusts := &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}
	if err := openOver(t, h, credentials.NewTLS(trusts)); err != nil {
		t.Errorf("native gRPC: %v", err)
	}
	for major := 1; major <= 2; major++ {
		c := overTLS(t, trusts, major)
		if got := post(t, c, h.API(), "session.v1.SessionService/Open", `{}`); got.status != http.StatusOK {
			t.Errorf("HTTP/%d: %+v", major, got)
		}
		if proto := version(t, c, h.API()); proto != major {
			t.Errorf("HTTP/%d was asked for, and HTTP/%d was spoken", major, proto)
		}
		if got := get(t, c, h.API()+"/livez"); got.status != http.StatusOK {
			t.Errorf("livez: %+v", got)
		}
	}
	if got := post(t, overSocket(t, cfg.DataDir), "http://localhost", "session.v1.SessionService/Open", `{}`); got.status != http.StatusOK {
		t.Errorf("the administrator's socket: %+v", got)
	}
	// Who trusts another authority does not talk to it.
	stranger := &tls.Config{RootCAs: newAuthority(t).pool(), MinVersion: tls.VersionTLS12}
	if err := openOver(t, h, credentials.NewTLS(stranger)); status.Code(err) != codes.Unavailable {
		t.Errorf("a caller who does not trust it: %v", err)
	}
	old := &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11} //nolint:gosec // what must be refused
	if resp, err := overTLS(t, old, 1).Do(request(t, h.API()+"/livez")); err == nil {
		_ = resp.Body.Close()
		t.Error("TLS 1.1 was spoken")
	}
}

func request(t *testing.T, url string) *http.Request {
	t.Helper()
	return must[*http.Request](t)(http.NewRequestWithContext(within(t), http.MethodGet, url, nil))
}

// version returns the version of HTTP that a client and the host agree on.
func version(t *testing.T, c *http.Client, api string) int {
	t.Helper()
	resp, err := c.Do(request(t, api+"/livez"))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.ProtoMajor
}

// Plaintext on a listener with TLS gets no answer but, at most, a TLS alert.
func TestPlaintextGetsNoAnswerFromTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg := onEtcd()
	cfg.TLS = ca.files(t, ca.sign(t, "host", x509.ExtKeyUsageServerAuth))
	cfg.TLS.CA = ""
	h := start(t, cfg)
	const secret = "SessionService"
	for name, hello := range map[string]string{
		"HTTP/1.1":      "POST /conclave.session.v1." + secret + "/Open HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/2":        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"a page":        "GET /ui/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"nothing of it": "\x00\x01\x02\x03hello hello hello",
	} {
		conn := must[net.Conn](t)(new(net.Dialer).DialContext(within(t), "tcp", strings.TrimPrefix(h.API(), "https://")))
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, hello); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn) // to the end: the host must hang up
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the host keeps the connection", name)
		}
		const alert = 7 // bytes: a record's header and an alert
		if len(answer) > alert || bytes.Contains(answer, []byte("HTTP")) {
			t.Errorf("%s is answered %q", name, answer)
		}
		_ = conn.Close()
	}
}

// With tls.ca, callers need a certificate that it signed, for every form of a
// call.
func TestTLSAsksForCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg := config(t)
	cfg.TLS = ca.files(t, ca.sign(t, "host", x509.ExtKeyUsageServerAuth))
	h := start(t, cfg)
	for name, tt := range map[string]struct {
		certs []tls.Certificate
		ok    bool
	}{
		"its authority's":              {[]tls.Certificate{ca.sign(t, "caller", x509.ExtKeyUsageClientAuth)}, true},
		"none":                         {nil, false},
		"another authority's":          {[]tls.Certificate{newAuthority(t).sign(t, "caller", x509.ExtKeyUsageClientAuth)}, false},
		"a server's, of the authority": {[]tls.Certificate{ca.sign(t, "another host", x509.ExtKeyUsageServerAuth)}, false},
	} {
		cfg := &tls.Config{RootCAs: ca.pool(), Certificates: tt.certs, MinVersion: tls.VersionTLS12}
		if err := openOver(t, h, credentials.NewTLS(cfg)); (err == nil) != tt.ok || (err != nil && status.Code(err) != codes.Unavailable) {
			t.Errorf("%s: native gRPC: %v", name, err)
		}
		for major := 1; major <= 2; major++ {
			resp, err := overTLS(t, cfg, major).Do(request(t, h.API()+"/livez"))
			if err == nil {
				_ = resp.Body.Close()
			}
			if (err == nil) != tt.ok {
				t.Errorf("%s: HTTP/%d: %v", name, major, err)
			}
		}
	}
	if got := post(t, overSocket(t, cfg.DataDir), "http://localhost", "session.v1.SessionService/Open", `{}`); got.status != http.StatusOK {
		t.Errorf("the administrator's socket: %+v", got)
	}
}

// An address that other machines reach needs TLS, or the flag that says that the
// network is trusted; and what TLS needs must be there when the host starts.
func TestListeningBeyondThisMachine(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	files := ca.files(t, ca.sign(t, "host", x509.ExtKeyUsageServerAuth))
	for name, tt := range map[string]struct {
		api  host.API
		tls  host.TLS
		want string // "": it may
	}{
		"every address":             {host.API{Listen: "0.0.0.0:0"}, host.TLS{}, "api.listen: 0.0.0.0:0 is reachable from other machines: give tls.cert and tls.key, or say api.insecure_listen"},
		"every address, by no name": {host.API{Listen: ":0"}, host.TLS{}, "api.listen: :0 is reachable"},
		"every IPv6 address":        {host.API{Listen: "[::]:0"}, host.TLS{}, "api.listen: [::]:0 is reachable"},
		"another machine's name":    {host.API{Listen: "conclave.internal:0"}, host.TLS{}, "is reachable"},
		"with TLS":                  {host.API{Listen: "0.0.0.0:0"}, files, ""},
		"in a trusted network":      {host.API{Listen: "0.0.0.0:0", InsecureListen: true}, host.TLS{}, ""},
		"an authority alone":        {host.API{Listen: "0.0.0.0:0"}, host.TLS{CA: files.CA}, "tls.cert: is empty"},
		"half a key pair":           {host.API{Listen: "0.0.0.0:0"}, host.TLS{Cert: files.Cert}, "tls: cert and key go together"},
	} {
		cfg := onEtcd()
		cfg.API, cfg.TLS = tt.api, tt.tls
		_, err := host.New(cfg, host.WithRecipe(keeper{}))
		if tt.want == "" && err != nil || tt.want != "" && (!errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	for name, files := range map[string]host.TLS{
		"no such file":      {Cert: "missing.pem", Key: files.Key},
		"no certificate":    {Cert: files.Key, Key: files.Key},
		"another's key":     {Cert: files.Cert, Key: ca.files(t, ca.sign(t, "other", x509.ExtKeyUsageServerAuth)).Key},
		"no authority":      {Cert: files.Cert, Key: files.Key, CA: files.Key},
		"authority missing": {Cert: files.Cert, Key: files.Key, CA: "missing.pem"},
	} {
		cfg := onEtcd()
		cfg.TLS = files
		if err := startError(t, cfg); err == nil || !strings.Contains(err.Error(), "tls: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Calls over TLS end in good order when the host stops.
func TestStopOverTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg := onEtcd()
	cfg.TLS = ca.files(t, ca.sign(t, "host", x509.ExtKeyUsageServerAuth))
	cfg.TLS.CA = ""
	h := start(t, cfg)
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	conn := must[*grpc.ClientConn](t)(grpc.NewClient(strings.TrimPrefix(h.API(), "https://"),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS12}))))
	t.Cleanup(func() { _ = conn.Close() })
	stream, err := sessionv1.NewSessionServiceClient(conn).KeepAlive(ctx)
	if err != nil {
		t.Fatal(err)
	}
	opened := must[*sessionv1.OpenResponse](t)(sessionv1.NewSessionServiceClient(conn).Open(ctx, &sessionv1.OpenRequest{}))
	if err := stream.Send(&sessionv1.KeepAliveRequest{SessionId: opened.GetSessionId(), Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	stop(t, h)
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
}
