package embedded_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/fileutil"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core/embedded"
)

// stopBound is the promise of Stop, two seconds, with room for a busy machine. What it guards against is etcd's own bound, which with
// these settings is 5.2 s, and no end at all.
const stopBound = 4500 * time.Millisecond

func config(dir string) embedded.Config {
	return embedded.Config{DataDir: dir, ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Fast: true, NoFsync: true}
}

func start(t *testing.T, cfg embedded.Config) *embedded.Member {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := embedded.Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeSoon(t, m) })
	return m
}

func closeSoon(t *testing.T, m *embedded.Member) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopBound)
	defer cancel()
	if err := m.Stop(ctx); err != nil && !errors.Is(err, embedded.ErrStopped) {
		t.Errorf("stop: %v", err)
	}
}

// refuse starts a member that must not start.
func refuse(t *testing.T, cfg embedded.Config, want error, texts ...string) {
	t.Helper()
	m, err := embedded.Start(t.Context(), cfg)
	if err == nil {
		closeSoon(t, m)
		t.Fatal("member started")
	}
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not name %q", err, text)
		}
	}
}

func TestRestartKeepsData(t *testing.T) {
	dir := t.TempDir()
	m := start(t, config(dir))
	put, err := m.Client().Put(t.Context(), "k", "v")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Err(); err != nil {
		t.Errorf("a running member's error: %v", err)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-m.Done():
	default:
		t.Error("Done is open after Close")
	}
	m = start(t, config(dir))
	got, err := m.Client().Get(t.Context(), "k")
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Kvs) != 1 || got.Kvs[0].ModRevision != put.Header.Revision {
		t.Errorf("after a restart: %v, want revision %d", got.Kvs, put.Header.Revision)
	}
}

func TestEphemeralPortsAreTheMembersOwn(t *testing.T) {
	m := start(t, config(t.TempDir()))
	list, err := m.Client().MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	self := list.Members[0]
	if len(self.ClientURLs) != 1 || self.ClientURLs[0] != m.Endpoints()[0] || self.PeerURLs[0] != m.PeerURL() {
		t.Errorf("the member list says %v, %v; the member says %v, %v", self.ClientURLs, self.PeerURLs, m.Endpoints(), m.PeerURL())
	}
	if strings.HasSuffix(m.Endpoints()[0], ":0") {
		t.Errorf("endpoint %s", m.Endpoints()[0])
	}
}

// Neither a watch nor a call that ends only with its connection may hold up the stop: etcd gives calls five seconds.
func TestStopCutsCallsThatDoNotEnd(t *testing.T) {
	entered := make(chan struct{})
	cfg := config(t.TempDir())
	cfg.Tune = func(e *embed.Config) {
		e.GRPCAdditionalServerOptions = append(e.GRPCAdditionalServerOptions,
			grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
				close(entered)
				<-s.Context().Done()
				return nil
			}))
	}
	m := start(t, cfg)
	c, err := clientv3.New(clientv3.Config{Endpoints: m.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	w := c.Watch(t.Context(), "k", clientv3.WithCreatedNotify())
	if got := <-w; !got.Created {
		t.Fatalf("first answer %v", got)
	}
	if _, err := c.ActiveConnection().NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/some/Call"); err != nil {
		t.Fatal(err)
	}
	<-entered
	closeSoon(t, m)
}

// etcd's own Close would wait for this client for ever.
func TestStopEndsWithAClientThatNeverSpoke(t *testing.T) {
	dir := t.TempDir()
	m := start(t, config(dir))
	silent, err := net.Dial("tcp", strings.TrimPrefix(m.Endpoints()[0], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	// Connections are accepted in order: when this one serves, the silent one has been taken in.
	c, err := clientv3.New(clientv3.Config{Endpoints: m.Endpoints(), Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	closeSoon(t, m)
	again := config(dir)
	again.ClientAddr = strings.TrimPrefix(m.Endpoints()[0], "http://")
	start(t, again) // data and port are free
}

func TestStopObeysItsContextAndGoesOn(t *testing.T) {
	m := start(t, config(t.TempDir()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("stop: %v", err)
	}
	<-m.Done()
	if err := m.Err(); err != nil {
		t.Errorf("after a stop that was asked for: %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for field, set := range map[string]func(*embedded.Config, string){
		"client": func(c *embedded.Config, a string) { c.ClientAddr = a },
		"peer":   func(c *embedded.Config, a string) { c.PeerAddr = a },
	} {
		t.Run(field, func(t *testing.T) {
			cfg := config(t.TempDir())
			set(&cfg, l.Addr().String())
			refuse(t, cfg, embedded.ErrPortInUse, l.Addr().String())
		})
	}
}

func TestInvalidConfigNamesItsField(t *testing.T) {
	for field, change := range map[string]func(*embedded.Config){
		"DataDir":        func(c *embedded.Config) { c.DataDir = "" },
		"Name":           func(c *embedded.Config) { c.Name = "a=b" },
		"ClientAddr":     func(c *embedded.Config) { c.ClientAddr = "localhost" },
		"PeerAddr":       func(c *embedded.Config) { c.InitialCluster = map[string]string{"conclave": "http://127.0.0.1:1"} },
		"InitialCluster": func(c *embedded.Config) { c.InitialCluster = map[string]string{"other": "http://127.0.0.1:1"} },
		"Tick":           func(c *embedded.Config) { c.Tick = time.Microsecond },
		"Election":       func(c *embedded.Config) { c.Election = -time.Second },
		"QuotaBytes":     func(c *embedded.Config) { c.QuotaBytes = -1 },
		"election":       func(c *embedded.Config) { c.Election = 20 * time.Millisecond }, // upstream's own check
	} {
		t.Run(field, func(t *testing.T) {
			cfg := config(t.TempDir())
			change(&cfg)
			refuse(t, cfg, embedded.ErrConfig, field)
		})
	}
}

func TestTuneHasTheLastWord(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Tune = func(e *embed.Config) { e.MaxTxnOps = 2 }
	c := start(t, cfg).Client()
	_, err := c.Txn(t.Context()).Then(clientv3.OpPut("a", ""), clientv3.OpPut("b", ""), clientv3.OpPut("c", "")).Commit()
	if err == nil || !strings.Contains(err.Error(), "too many operations") {
		t.Errorf("three operations of two: %v", err)
	}
}

func TestDataDirIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "data")
	start(t, config(dir))
	fi, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != 0o700 {
		t.Errorf("mode %v", fi.Mode())
	}
}

// A claim that was let go while this process was starting another one stands
// until that one runs its own program: Start outlasts it.
func TestStartOutlastsAClaimThatEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	claim, err := fileutil.TryLockFile(filepath.Join(dir, "conclave.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(20*time.Millisecond, func() { _ = claim.Close() })
	start(t, config(dir))
}

// Callers in the same process see what callers over the network see.
func TestDirectClientIsTheMembersOwn(t *testing.T) {
	t.Parallel()
	m := start(t, config(t.TempDir()))
	c := m.DirectClient()
	defer func() { _ = c.Close() }() // upstream's answer without a connection is that its context has ended
	events := m.Client().Watch(t.Context(), "k")
	own := c.Watch(clientv3.WithRequireLeader(t.Context()), "k")
	lease, err := c.Grant(t.Context(), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "k", "v", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	for _, watched := range []clientv3.WatchChan{events, own} {
		if r := <-watched; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != "v" {
			t.Errorf("watched %v (%v)", r.Events, r.Err())
		}
	}
	if _, err := c.KeepAliveOnce(t.Context(), lease.ID); err != nil {
		t.Error(err)
	}
	if members, err := c.MemberList(t.Context()); err != nil || len(members.Members) != 1 {
		t.Errorf("members %v, %v", members, err)
	}
}
