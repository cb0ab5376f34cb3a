package watch_test

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// patience bounds what must happen; no test passes or fails by being quicker.
const patience = 60 * time.Second

// etcd is the member that the package's tests share.
var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// member starts an etcd member that the test kit has no setting for: with
// authentication, in a cluster, or in place of another.
func member(dir string, change func(*embed.Config)) (*embed.Etcd, error) {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	port := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = []url.URL{port}, []url.URL{port}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = []url.URL{port}, []url.URL{port}
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.UnsafeNoFsync = true
	if change != nil {
		change(cfg)
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
		return e, nil
	case <-time.After(patience):
		e.Server.Stop()
		return nil, fmt.Errorf("member is not ready")
	}
}

// stop ends a member that may have lost its quorum: Close alone would wait for it.
func stop(e *embed.Etcd) {
	e.Server.Stop()
	e.Close()
}

func address(e *embed.Etcd) string { return e.Clients[0].Addr().String() }

// client connects to addr; the client ends with the test.
func client(t *testing.T, addr string, change ...func(*clientv3.Config)) *clientv3.Client {
	t.Helper()
	quick := grpcbackoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}
	cfg := clientv3.Config{Endpoints: []string{addr}, DialTimeout: patience, Logger: zap.NewNop(), DialOptions: []grpc.DialOption{
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: time.Second}),
	}}
	for _, f := range change {
		f(&cfg)
	}
	c, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// direct is a client of the shared member.
func direct(t *testing.T) *clientv3.Client { return client(t, shared()) }

// shared is the shared member's client address.
func shared() string { return strings.TrimPrefix(etcd.Endpoint(), "http://") }

// countStreams counts the watch streams that a client opens.
func countStreams(n *atomic.Int64) func(*clientv3.Config) {
	return func(cfg *clientv3.Config) {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithChainStreamInterceptor(func(ctx context.Context,
			desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption,
		) (grpc.ClientStream, error) {
			if method == "/etcdserverpb.Watch/Watch" {
				n.Add(1)
			}
			return streamer(ctx, desc, cc, method, opts...)
		}))
	}
}

// prefix is the test's own part of the keyspace, empty when the test begins, the
// second time too.
func prefix(t *testing.T) string {
	p := keyspace.Prefix("test", "watch", t.Name())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if _, err := etcd.Member().Client().Delete(ctx, p, clientv3.WithPrefix()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// ctxOf ends when the test has taken far too long.
func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func put(t *testing.T, c *clientv3.Client, key, value string) int64 {
	t.Helper()
	resp, err := c.Put(ctxOf(t), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func del(t *testing.T, c *clientv3.Client, key string) int64 {
	t.Helper()
	resp, err := c.Delete(ctxOf(t), key)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.Revision
}

func compact(t *testing.T, c *clientv3.Client, rev int64) {
	t.Helper()
	if _, err := c.Compact(ctxOf(t), rev, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
}

// receive takes the next value of ch, or fails the test.
func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v, ok := <-ch:
		if !ok {
			t.Fatal("the channel was closed")
		}
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
	}
	panic("unreachable")
}
