package host_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/internal/certs"
)

// memberFiles writes a certificate that is good for both sides of loopback.
func (a authority) memberFiles(t *testing.T, name string, life time.Duration) host.TLS {
	t.Helper()
	signer := &certs.Pair{Cert: a.cert, Key: a.key}
	p := must[*certs.Pair](t)(signer.Sign(certs.Request{Name: name, Hosts: []string{"127.0.0.1"}, Server: true, Client: true, Life: life}))
	return a.files(t, p.TLS())
}

// Every listener asks for certificates; the host reaches its own member, and tells of its certificates.
func TestTLSEverywhere(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t) // its certificates end within the hour
	cfg := config(t)
	cfg.TLS, cfg.Etcd.ClientTLS, cfg.Etcd.PeerTLS = ca.memberFiles(t, "api", time.Hour), ca.memberFiles(t, "etcd", time.Hour), ca.memberFiles(t, "peer", time.Hour)
	h := start(t, cfg)
	if !strings.HasPrefix(h.Etcd()[0], "https://") || !strings.HasPrefix(h.API(), "https://") {
		t.Errorf("URLs are %s and %v", h.API(), h.Etcd())
	}
	answer := must[*hostv1.StatusResponse](t)(hostv1.NewHostServiceClient(admin(t, cfg)).Status(within(t), &hostv1.StatusRequest{}))
	var told []string
	for _, p := range answer.GetProblems() {
		told = append(told, p.GetReason()+": "+p.GetText())
	}
	all := strings.Join(told, "\n")
	for _, want := range []string{"certificate_expires: the certificate of tls, ", "of etcd.client_tls, ", "of etcd.peer_tls, "} {
		if !strings.Contains(all, want) {
			t.Errorf("problems are %q, want %q", all, want)
		}
	}
	if !answer.GetEtcd().GetServing() {
		t.Errorf("etcd does not serve: %v", answer.GetEtcd())
	}
}

// A renewed certificate counts without a restart, for whoever connects anew.
func TestCertificateIsRenewedWhileTheHostRuns(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	cfg := config(t)
	cfg.TLS = ca.memberFiles(t, "first", time.Hour)
	cfg.TLS.CA = ""
	h := start(t, cfg)
	if _, got := metrics(t, ca, h); got != "first" {
		t.Fatalf("the certificate is %q", got)
	}
	next := ca.memberFiles(t, "second", 30*time.Minute)
	later := time.Now().Add(time.Second)
	for from, to := range map[string]string{next.Key: cfg.TLS.Key, next.Cert: cfg.TLS.Cert} {
		if err := errors.Join(os.Chtimes(from, later, later), os.Rename(from, to)); err != nil {
			t.Fatal(err)
		}
	}
	text, got := metrics(t, ca, h)
	if got != "second" {
		t.Errorf("after the renewal the certificate is %q", got)
	}
	if !strings.Contains(text, `conclave_certificate_expires_timestamp_seconds{field="tls"}`) {
		t.Error("no metric of the certificate's end")
	}
}

// admin returns a connection to the administrator's socket.
func admin(t *testing.T, cfg host.Config) *grpc.ClientConn {
	t.Helper()
	c := must[*grpc.ClientConn](t)(grpc.NewClient("unix:"+filepath.Join(cfg.DataDir, "conclave.sock"), grpc.WithTransportCredentials(insecure.NewCredentials())))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// metrics asks for them over a connection of its own, and returns whose certificate
// the host has shown too.
func metrics(t *testing.T, ca authority, h *host.Host) (text, shown string) {
	t.Helper()
	web := overTLS(t, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS13}, 1)
	r, err := web.Do(request(t, h.API()+"/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	return string(must[[]byte](t)(io.ReadAll(r.Body))), r.TLS.PeerCertificates[0].Subject.CommonName
}

// With etcd's authentication on, a host with a login of its own serves, and needs
// nothing outside its keys.
func TestHostWithALogin(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.Etcd.User, cfg.Etcd.PasswordFile = "host", file
	h := start(t, cfg)
	c := dial(t, h)
	ctx := within(t)
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { _, err := c.UserAdd(ctx, "root", "secret"); return err },
		func(ctx context.Context) error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func(ctx context.Context) error { _, err := c.UserAdd(ctx, "host", "hunter2"); return err },
		func(ctx context.Context) error { _, err := c.RoleAdd(ctx, "host"); return err },
		func(ctx context.Context) error {
			_, err := c.RoleGrantPermission(ctx, "host", "/conclave/", "/conclave0", clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func(ctx context.Context) error { _, err := c.UserGrantRole(ctx, "host", "host"); return err },
		func(ctx context.Context) error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := step(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := sessionv1.NewSessionServiceClient(native(t, h)).Open(ctx, &sessionv1.OpenRequest{}); err != nil {
		t.Errorf("open a session: %v", err)
	}
	answer := must[*hostv1.StatusResponse](t)(hostv1.NewHostServiceClient(admin(t, cfg)).Status(ctx, &hostv1.StatusRequest{}))
	if len(answer.GetProblems()) > 0 || !answer.GetEtcd().GetAuthEnabled() {
		t.Errorf("auth enabled: %v, problems: %v", answer.GetEtcd().GetAuthEnabled(), answer.GetProblems())
	}
}

func TestSecureConfig(t *testing.T) {
	t.Parallel()
	files := newAuthority(t).memberFiles(t, "x", time.Hour)
	for want, change := range map[string]func(*host.Config){
		"etcd.listen_client: 0.0.0.0:2379 is reachable": func(c *host.Config) { c.Etcd.ListenClient = "0.0.0.0:2379" },
		"give etcd.peer_tls.cert":                       func(c *host.Config) { c.Etcd.ListenPeer = ":2380" },
		"nobody asks who calls: give auth.callers or tls.ca": func(c *host.Config) {
			c.API.Listen, c.TLS = "0.0.0.0:0", files
			c.TLS.CA = ""
		},
		"give etcd.client_tls.ca": func(c *host.Config) {
			c.Etcd.ListenClient, c.Etcd.ClientTLS = "0.0.0.0:0", files
			c.Etcd.ClientTLS.CA = ""
		},
		"etcd.peer_tls.ca: is empty":                    func(c *host.Config) { c.Etcd.PeerTLS = host.TLS{Cert: "c", Key: "k"} },
		`tls.min_version: "1.1" is not one of 1.2, 1.3`: func(c *host.Config) { c.TLS = files; c.TLS.MinVersion = "1.1" },
		"etcd.peer_tls.min_version: is another": func(c *host.Config) {
			c.Etcd.ClientTLS, c.Etcd.PeerTLS = files, files
			c.Etcd.PeerTLS.MinVersion = "1.2"
		},
		"etcd.user: is empty":                           func(c *host.Config) { c.Etcd.PasswordFile = "f" },
		"etcd.password_file: is what a user has":        func(c *host.Config) { c.Etcd.User = "u" },
		"etcd.tls: is for mode external":                func(c *host.Config) { c.Etcd.TLS = files },
		"client_tls and peer_tls are for mode embedded": func(c *host.Config) { c.Etcd.Endpoints = []string{"http://127.0.0.1:1"}; c.Etcd.ClientTLS = files },
	} {
		c := host.Config{DataDir: "d"}
		change(&c)
		if err := c.Check(); !errors.Is(err, host.ErrConfig) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	c := host.Config{DataDir: "d", API: host.API{InsecureListen: true}, Etcd: host.Etcd{ListenClient: "0.0.0.0:2379", ListenPeer: "0.0.0.0:2380"}}
	if err := c.Check(); err != nil {
		t.Errorf("a trusted network: %v", err)
	}
}
