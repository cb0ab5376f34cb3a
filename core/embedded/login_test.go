package embedded_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/authpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/internal/certs"
)

var discard = slog.New(slog.DiscardHandler)

// users makes root and a host that may do what it likes below /conclave/, and asks everybody for a login.
func users(ctx context.Context, t *testing.T, c *clientv3.Client) {
	t.Helper()
	for _, step := range []func() error{
		func() error { _, err := c.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := c.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := c.UserAdd(ctx, "host", "hunter2"); return err },
		func() error { _, err := c.RoleAdd(ctx, "host"); return err },
		func() error {
			_, err := c.RoleGrantPermission(ctx, "host", "/conclave/", "/conclave0", clientv3.PermissionType(authpb.READWRITE))
			return err
		},
		func() error { _, err := c.UserGrantRole(ctx, "host", "host"); return err },
		func() error { _, err := c.AuthEnable(ctx); return err },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// A process with a login goes on when authentication comes on, when users change, when its tokens expire, and after a restart.
func TestLogin(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Username, cfg.Password = "host", "hunter2"
	cfg.Tune = func(e *embed.Config) { e.AuthTokenTTL = 1 } // seconds
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := start(t, cfg)
	c := m.DirectClient()
	try := func(when string) {
		t.Helper()
		if _, err := c.Put(ctx, "/conclave/k", when); err != nil {
			t.Errorf("%s: put: %v", when, err)
		}
		l, err := c.Grant(ctx, 60)
		if err != nil {
			t.Errorf("%s: grant: %v", when, err)
			return
		}
		if _, err := c.Put(ctx, "/conclave/leased", "", clientv3.WithLease(l.ID)); err != nil {
			t.Errorf("%s: put with a lease: %v", when, err)
		}
		if _, err := c.Revoke(ctx, l.ID); err != nil {
			t.Errorf("%s: revoke: %v", when, err)
		}
		if _, err := m.Client().Get(ctx, "/conclave/k"); err != nil {
			t.Errorf("%s: over loopback: %v", when, err)
		}
	}
	try("without authentication")
	plain := dialWith(t, clientv3.Config{Endpoints: m.Endpoints()})
	users(ctx, t, plain)
	try("with authentication")
	if _, err := plain.Get(ctx, "/conclave/k"); err == nil {
		t.Error("a client without a login was served")
	}
	if _, err := c.Put(ctx, "/elsewhere", ""); err == nil {
		t.Error("the login wrote what its role does not allow")
	}
	root := dialWith(t, clientv3.Config{Endpoints: m.Endpoints(), Username: "root", Password: "secret"})
	if _, err := root.UserAdd(ctx, "another", "x"); err != nil { // tokens are of an old revision now
		t.Fatal(err)
	}
	try("after a change of users")
	closeSoon(t, m)
	m = start(t, cfg)
	c = m.DirectClient()
	try("after a restart")
	cfg.Password = "wrong"
	closeSoon(t, m)
	if m, err := embedded.Start(ctx, cfg); err == nil {
		closeSoon(t, m)
		t.Error("a wrong password was taken")
	}
}

// A watch that is opened after authentication came on is let in with a login.
func TestWatchWithLogin(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Username, cfg.Password = "host", "hunter2"
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := start(t, cfg)
	c := m.DirectClient()
	before := c.Watch(ctx, "/conclave/k")
	users(ctx, t, dialWith(t, clientv3.Config{Endpoints: m.Endpoints()}))
	after := c.Watch(clientv3.WithRequireLeader(ctx), "/conclave/k", clientv3.WithCreatedNotify())
	if r := <-after; r.Err() != nil {
		t.Fatalf("created: %v", r.Err())
	}
	if _, err := c.Put(ctx, "/conclave/k", "v"); err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]clientv3.WatchChan{"before": before, "after": after} {
		if r := <-w; r.Err() != nil || len(r.Events) != 1 {
			t.Errorf("the watch from %s: %v, %v", name, r.Events, r.Err())
		}
	}
}

// Calls in this process are its own, whoever's context they come with.
func TestDirectCallsAreNobodyElses(t *testing.T) {
	a := newAuthority(t)
	cfg := config(t.TempDir())
	cfg.ClientTLS = a.sign(certs.Request{Name: "member", Hosts: []string{"127.0.0.1"}, Server: true, Client: true})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := start(t, cfg)
	rootCert := a.sign(certs.Request{Name: "root", Client: true})
	root := a.client(m, rootCert)
	users(ctx, t, root)
	if _, err := root.Put(ctx, "/k", "v"); err != nil {
		t.Fatalf("root by its certificate: %v", err)
	}
	pair, err := tls.LoadX509KeyPair(rootCert.Cert, rootCert.Key)
	if err != nil {
		t.Fatal(err)
	}
	state := tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{pair.Leaf}}}
	for name, foreign := range map[string]context.Context{
		"a certificate":             peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: state}}),
		"a connection of plaintext": peer.NewContext(ctx, &peer.Peer{AuthInfo: plainInfo{}}),
		"a token":                   metadata.NewIncomingContext(ctx, metadata.Pairs("token", "x")),
	} {
		if _, err := m.DirectClient().Get(foreign, "/k"); !errors.Is(err, rpctypes.ErrUserEmpty) {
			t.Errorf("with %s: got %v, want that no user is named", name, err)
		}
	}
}

type plainInfo struct{}

func (plainInfo) AuthType() string { return "insecure" }

// A login that nobody answers holds up neither other calls beyond their time nor the stop.
func TestLoginWithoutALeader(t *testing.T) {
	t.Parallel()
	cfgs := cluster(t, 3)
	for i := range cfgs {
		cfgs[i].Username, cfgs[i].Password = "host", "hunter2"
	}
	members := startAll(t, cfgs)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m := members[0]
	c := m.DirectClient()
	defer func() { _ = c.Close() }() // it has no connection of its own to close
	users(ctx, t, dialWith(t, clientv3.Config{Endpoints: m.Endpoints()}))
	root := dialWith(t, clientv3.Config{Endpoints: m.Endpoints(), Username: "root", Password: "secret"})
	plain := c.Watch(ctx, "/conclave/k", clientv3.WithCreatedNotify())
	strict := c.Watch(clientv3.WithRequireLeader(ctx), "/conclave/k", clientv3.WithCreatedNotify())
	for _, w := range []clientv3.WatchChan{plain, strict} {
		if r := <-w; r.Err() != nil {
			t.Fatal(r.Err())
		}
	}
	if _, err := root.UserChangePassword(ctx, "host", "hunter2"); err != nil { // its tokens are good no more
		t.Fatal(err)
	}
	for _, other := range members[1:] {
		closeSoon(t, other)
	}
	if r := <-strict; !errors.Is(r.Err(), rpctypes.ErrNoLeader) {
		t.Fatalf("the watch ended with %v", r.Err())
	}
	put := make(chan struct{})
	go func() {
		defer close(put)
		_, _ = c.Put(ctx, "/conclave/k", "v") // it ends with the member
	}()
	soon, done := context.WithTimeout(ctx, 300*time.Millisecond)
	defer done()
	if _, err := c.Get(soon, "/conclave/k"); err == nil {
		t.Error("a read without a leader was answered")
	}
	select {
	case <-put:
		t.Error("the read waited for the write's login")
	default:
	}
	closeSoon(t, m)
	<-put
}
