package embedded_test

import (
	"context"
	"crypto/tls"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/internal/certs"
	"github.com/conclavehq/conclave/internal/tlsfiles"
)

// An authority signs the certificates of a test.
type authority struct {
	t    *testing.T
	dir  string
	pair *certs.Pair
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	a := authority{t: t, dir: t.TempDir()}
	var err error
	if a.pair, err = certs.NewAuthority("test", time.Hour); err == nil {
		err = a.pair.Write(a.path("ca.pem"), a.path("ca-key.pem"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a authority) sign(r certs.Request) embedded.TLS {
	a.t.Helper()
	r.Life = time.Hour
	p, err := a.pair.Sign(r)
	if err == nil {
		err = p.Write(a.path(r.Name+".pem"), a.path(r.Name+"-key.pem"))
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return embedded.TLS{Cert: a.path(r.Name + ".pem"), Key: a.path(r.Name + "-key.pem"), CA: a.path("ca.pem")}
}

// client dials a member over TLS; a zero f shows no certificate.
func (a authority) client(m *embedded.Member, f embedded.TLS) *clientv3.Client {
	a.t.Helper()
	files := tlsfiles.Files{Cert: f.Cert, Key: f.Key, CA: a.path("ca.pem")}
	return dialTLS(a.t, m, files)
}

func dialTLS(t *testing.T, m *embedded.Member, f tlsfiles.Files) *clientv3.Client {
	t.Helper()
	secret, err := f.Client(discard)
	if err != nil {
		t.Fatal(err)
	}
	return dialWith(t, clientv3.Config{Endpoints: m.Endpoints(), TLS: secret})
}

func dialWith(t *testing.T, cfg clientv3.Config) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Both listeners ask for certificates; the certificate has a name that is not loopback's, and the member reaches itself all the same.
func TestTLSOnBothListeners(t *testing.T) {
	a := newAuthority(t)
	cfgs := cluster(t, 3)
	for i := range cfgs {
		for name, peer := range cfgs[i].InitialCluster {
			cfgs[i].InitialCluster[name] = strings.Replace(peer, "http://", "https://", 1)
		}
		cfgs[i].PeerTLS = a.sign(certs.Request{Name: cfgs[i].Name, Hosts: []string{"127.0.0.1"}, Server: true, Client: true})
		cfgs[i].ClientTLS = a.sign(certs.Request{Name: cfgs[i].Name + ".example.com", Hosts: []string{cfgs[i].Name + ".example.com", "127.0.0.1"}, Server: true, Client: true})
	}
	members := startAll(t, cfgs)
	if !strings.HasPrefix(members[0].Endpoints()[0], "https://") || !strings.HasPrefix(members[0].PeerURL(), "https://") {
		t.Errorf("URLs are %v and %s", members[0].Endpoints(), members[0].PeerURL())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := members[0].DirectClient().Put(ctx, "k", "v"); err != nil {
		t.Fatal(err)
	}
	for _, m := range members { // as status does
		if _, err := members[0].Client().Status(ctx, m.Endpoints()[0]); err != nil {
			t.Errorf("a member asked another: %v", err)
		}
	}
	trusted := a.client(members[1], a.sign(certs.Request{Name: "client", Client: true}))
	if r, err := trusted.Get(ctx, "k"); err != nil || r.Count != 1 {
		t.Errorf("a client with a certificate: %v, %v", r, err)
	}
	other := newAuthority(t)
	stranger := other.sign(certs.Request{Name: "client", Client: true})
	for name, f := range map[string]tlsfiles.Files{
		"no certificate":                  {CA: a.path("ca.pem")},
		"another authority's certificate": {Cert: stranger.Cert, Key: stranger.Key, CA: a.path("ca.pem")},
	} {
		short, cancel := context.WithTimeout(ctx, time.Second)
		if _, err := dialTLS(t, members[2], f).Get(short, "k"); err == nil {
			t.Errorf("%s: was served", name)
		}
		cancel()
	}
}

func TestTLSMinVersion(t *testing.T) {
	a := newAuthority(t)
	for version, want := range map[string]bool{"": false, "1.3": false, "1.2": true} {
		cfg := config(t.TempDir())
		cfg.ClientTLS, cfg.TLSMinVersion = a.sign(certs.Request{Name: "member", Hosts: []string{"127.0.0.1"}, Server: true}), version
		cfg.ClientTLS.CA = ""
		m := start(t, cfg)
		c, err := tls.Dial("tcp", strings.TrimPrefix(m.Endpoints()[0], "https://"),
			&tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}) //nolint:gosec // the version is what is tried
		if err == nil {
			_ = c.Close()
		}
		if (err == nil) != want {
			t.Errorf("minimum %q: a client of TLS 1.2 got %v", version, err)
		}
		closeSoon(t, m)
	}
}

func TestInvalidTLSNamesItsField(t *testing.T) {
	a := newAuthority(t)
	good := a.sign(certs.Request{Name: "member", Server: true})
	for want, change := range map[string]func(*embedded.Config){
		"ClientTLS: needs a certificate": func(c *embedded.Config) { c.ClientTLS.CA = good.CA },
		"PeerTLS: needs a CA":            func(c *embedded.Config) { c.PeerTLS = embedded.TLS{Cert: good.Cert, Key: good.Key} },
		"PeerTLS: open ":                 func(c *embedded.Config) { c.PeerTLS = embedded.TLS{Cert: good.Cert, Key: a.path("none"), CA: good.CA} },
		"ClientTLS: open ":               func(c *embedded.Config) { c.ClientTLS = embedded.TLS{Cert: a.path("none"), Key: good.Key} },
		`TLSMinVersion: "1.1"`:           func(c *embedded.Config) { c.TLSMinVersion = "1.1" },
		"Username":                       func(c *embedded.Config) { c.Username = "u" },
		"as PeerTLS asks": func(c *embedded.Config) {
			c.PeerAddr, c.PeerTLS, c.InitialCluster = "127.0.0.1:9", good, map[string]string{"conclave": "http://127.0.0.1:9"}
		},
	} {
		cfg := config(t.TempDir())
		change(&cfg)
		m, err := embedded.Start(t.Context(), cfg)
		if err == nil {
			closeSoon(t, m)
		}
		if !errors.Is(err, embedded.ErrConfig) || !strings.Contains(strings.Replace(err.Error(), "stat ", "open ", 1), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
