package tlsfiles

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/conclavehq/conclave/internal/certs"
)

// A process trusts its own certificate whatever it is for, and others' for their own hosts.
func TestLoopback(t *testing.T) {
	s, stranger := newSite(t), newSite(t)
	own := s.files("named")
	s.sign("named", certs.Request{Name: "named", Hosts: []string{"elsewhere.example"}, Server: true, Client: true, Life: time.Hour})
	s.sign("address", certs.Request{Name: "address", Hosts: []string{"192.0.2.1"}, Server: true, Life: time.Hour})
	for name, c := range map[string]struct {
		server    Files
		authority string
		good      bool
	}{
		"its own, by an address":             {own, "127.0.0.1:2379", true},
		"its own, by a name":                 {own, "localhost:2379", true},
		"another's, by its address":          {s.files("server"), "127.0.0.1:2379", true},
		"another's, by its name":             {s.files("server"), "localhost", true},
		"another's, by an address not its":   {s.files("address"), "127.0.0.1:2379", false},
		"another's, by a name not its":       {s.files("server"), "elsewhere.example:2379", false},
		"another's, of another authority":    {stranger.files("server"), "127.0.0.1:2379", false},
		"another's, and nobody knows whose":  {s.files("server"), "", false},
		"another's, by its address, no port": {s.files("address"), "192.0.2.1", true},
	} {
		server := c.server
		server.CA = "" // who calls is not what is tried
		if err := loopbackMeets(t, own, s.server(server), c.authority); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// loopbackMeets dials a server as if by the authority.
func loopbackMeets(t *testing.T, own Files, server *tls.Config, authority string) error {
	t.Helper()
	creds, err := own.Loopback(silent)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	server = server.Clone()
	server.GetConfigForClient, server.NextProtos = nil, []string{"h2"}
	served := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			err = errors.Join(tls.Server(conn, server).HandshakeContext(ctx), conn.Close())
		}
		served <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _, err = creds.Clone().ClientHandshake(ctx, authority, conn)
	return errors.Join(err, <-served)
}
