package tlsfiles

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/conclavehq/conclave/internal/certs"
)

// A site is a directory with the files of a server, a client and their authority.
type site struct {
	t   *testing.T
	dir string
	ca  *certs.Pair
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir()}
	s.authority()
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// authority makes a new authority, and files that it signed.
func (s *site) authority() {
	s.t.Helper()
	ca, err := certs.NewAuthority("test", time.Hour)
	s.must(err)
	s.ca = ca
	s.must(ca.Write(s.path("ca.pem"), s.path("ca-key.pem")))
	s.sign("server", certs.Request{Name: "server", Hosts: []string{"127.0.0.1", "localhost"}, Server: true, Life: time.Hour})
	s.sign("client", certs.Request{Name: "client", Client: true, Life: time.Hour})
}

func (s *site) sign(name string, r certs.Request) *certs.Pair {
	s.t.Helper()
	p, err := s.ca.Sign(r)
	s.must(err)
	s.must(p.Write(s.path(name+".pem"), s.path(name+"-key.pem")))
	return p
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) files(name string) Files {
	return Files{Cert: s.path(name + ".pem"), Key: s.path(name + "-key.pem"), CA: s.path("ca.pem")}
}

// touch gives files a time that no earlier write had, as a later write has on
// every file system but within its clock's tick.
func (s *site) touch(later time.Duration) {
	s.t.Helper()
	at := time.Now().Add(later)
	for _, name := range []string{"ca.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem"} {
		s.must(os.Chtimes(s.path(name), at, at))
	}
}

var silent = slog.New(slog.DiscardHandler)

func (s *site) server(f Files) *tls.Config {
	s.t.Helper()
	c, err := f.Server(silent)
	s.must(err)
	return c
}

func (s *site) client(f Files) *tls.Config {
	s.t.Helper()
	c, err := f.Client(silent)
	s.must(err)
	c.ServerName = "127.0.0.1"
	return c
}

// meet lets the two talk, and returns what each saw.
func meet(t *testing.T, server, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		raw, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer raw.Close()
		c := tls.Server(raw, server)
		err = c.HandshakeContext(t.Context())
		if err == nil {
			_, err = c.Write([]byte("x"))
		}
		served <- err
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := tls.Client(raw, client)
	_, err = c.Read(make([]byte, 1)) // a server that refuses a certificate says so after the handshake
	state := c.ConnectionState()
	_ = raw.Close()
	return state, errors.Join(err, <-served)
}

func TestBothSidesFollowTheirFiles(t *testing.T) {
	s := newSite(t)
	server, client := s.server(s.files("server")), s.client(s.files("client"))
	first, err := meet(t, server, client)
	s.must(err)
	if first.Version != tls.VersionTLS13 {
		t.Errorf("spoke version %x", first.Version)
	}
	s.sign("server", certs.Request{Name: "server", Hosts: []string{"127.0.0.1"}, Server: true, Life: time.Hour})
	s.touch(time.Second)
	second, err := meet(t, server, client)
	s.must(err)
	if first.PeerCertificates[0].Equal(second.PeerCertificates[0]) {
		t.Error("the server still shows its first certificate")
	}
	s.authority() // everything is new, the authority too
	s.touch(2 * time.Second)
	if _, err := meet(t, server, s.client(s.files("client"))); err != nil {
		t.Errorf("a server does not follow its authority's file: %v", err)
	}
	if _, err := meet(t, server, client); err == nil {
		t.Error("a client took another authority for its own")
	}
}

func TestBrokenFilesLeaveTheFormerOnes(t *testing.T) {
	s := newSite(t)
	server, client := s.server(s.files("server")), s.client(s.files("client"))
	s.must(os.WriteFile(s.path("server-key.pem"), []byte("half"), 0o600))
	s.must(os.WriteFile(s.path("ca.pem"), nil, 0o600))
	s.touch(time.Second)
	if _, err := meet(t, server, client); err != nil {
		t.Errorf("after a broken change: %v", err)
	}
}

func TestWhoIsRefused(t *testing.T) {
	s, other := newSite(t), newSite(t)
	server, client := s.files("server"), s.files("client")
	wrongName := s.client(client)
	wrongName.ServerName = "example.com"
	s.sign("elsewhere", certs.Request{Name: "elsewhere", Hosts: []string{"192.0.2.1", "elsewhere.example"}, Server: true, Life: time.Hour})
	if _, err := meet(t, s.server(s.files("elsewhere")), s.client(client)); err == nil {
		t.Error("a certificate for another IP address was accepted")
	}
	oldest := s.client(client)
	oldest.MinVersion, oldest.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	bare := s.client(Files{CA: client.CA})
	for name, c := range map[string]*tls.Config{
		"another authority's server": s.client(Files{Cert: client.Cert, Key: client.Key, CA: other.path("ca.pem")}),
		"another authority's client": s.client(Files{Cert: other.path("client.pem"), Key: other.path("client-key.pem"), CA: client.CA}),
		"another name":               wrongName,
		"an old version":             oldest,
		"no certificate":             bare,
		"a server's as a client's":   s.client(Files{Cert: server.Cert, Key: server.Key, CA: server.CA}),
	} {
		if _, err := meet(t, s.server(server), c); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	lenient := server
	lenient.MinVersion = tls.VersionTLS12
	if _, err := meet(t, s.server(lenient), oldest); err != nil {
		t.Errorf("TLS 1.2, which was allowed: %v", err)
	}
	open := server
	open.CA = ""
	if _, err := meet(t, s.server(open), bare); err != nil {
		t.Errorf("no certificate, where none is asked for: %v", err)
	}
}

func TestCheckNamesTheFile(t *testing.T) {
	s := newSite(t)
	s.must(os.WriteFile(s.path("junk"), []byte("junk"), 0o600))
	good := s.files("server")
	for want, f := range map[string]Files{
		"none.pem: no such file":     {Cert: s.path("none.pem"), Key: good.Key},
		"none.key: no such file":     {Cert: good.Cert, Key: s.path("none.key")},
		"junk: holds no certificate": {CA: s.path("junk")},
		"junk and":                   {Cert: s.path("junk"), Key: good.Key},
		"private key does not match": {Cert: good.Cert, Key: s.path("client-key.pem")},
		"ca.pem and":                 {Cert: good.CA, Key: good.Key},
	} {
		if err := f.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want %q", f, err, want)
		}
	}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	if _, err := (Files{CA: good.CA}).Server(silent); err == nil {
		t.Error("a server without a certificate was made")
	}
}

func TestExpires(t *testing.T) {
	s := newSite(t)
	p := s.sign("server", certs.Request{Name: "server", Server: true, Life: 90 * time.Minute})
	at, err := s.files("server").Expires()
	s.must(err)
	if !at.Equal(p.Cert.NotAfter) || !at.Equal(s.ca.Cert.NotAfter) {
		t.Errorf("expires %v, want %v, which is the authority's end", at, p.Cert.NotAfter)
	}
}
