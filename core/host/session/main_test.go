package session_test

import (
	"context"
	"flag"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host/session"
	"github.com/conclavehq/conclave/core/recipe"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) {
	// These tests wait for what must not happen much longer than they work.
	if err := flag.Set("test.parallel", "32"); err != nil {
		panic(err)
	}
	coretest.Main(m, &etcd, coretest.WithChildren(children()))
}

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = 30 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// A host is what a host is to a caller: a service behind a gRPC server.
type host struct {
	*session.Service
	addr   string
	server *grpc.Server
	stop   func()

	serving sync.WaitGroup
}

// start starts a host on an etcd client of its own; it ends with the test.
func start(tb testing.TB, c *clientv3.Client, change ...func(*session.Config)) *host {
	tb.Helper()
	cfg := session.Config{Client: c, Log: slog.New(slog.DiscardHandler), Host: tb.Name()}
	for _, f := range change {
		f(&cfg)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	h := &host{Service: session.New(cfg), addr: ln.Addr().String(), server: grpc.NewServer()}
	sessionv1.RegisterSessionServiceServer(h.server, h.Service)
	h.serve(tb, ln)
	stopped := false
	h.stop = func() {
		if stopped {
			return
		}
		stopped = true
		h.Stopping()
		h.server.Stop()
		h.serving.Wait()
		if err := h.Stop(within(tb)); err != nil {
			tb.Error(err)
		}
	}
	tb.Cleanup(h.stop)
	return h
}

func (h *host) serve(tb testing.TB, ln net.Listener) {
	tb.Helper()
	h.serving.Go(func() { _ = h.server.Serve(session.Listen(ln)) }) // ends with Stop
}

// dial returns a client of the host over a connection of its own.
func (h *host) dial(tb testing.TB) sessionv1.SessionServiceClient {
	tb.Helper()
	return dial(tb, h.addr)
}

func dial(tb testing.TB, addr string) sessionv1.SessionServiceClient {
	tb.Helper()
	c, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return sessionv1.NewSessionServiceClient(c)
}

// as is a call of somebody whom the host knows.
func as(ctx context.Context, identity string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, recipe.MetaIdentity, identity)
}

func wantReason(tb testing.TB, err error, reason string) {
	tb.Helper()
	if got := recipe.Reason(err); got != reason {
		tb.Errorf("got %v, want the reason %s", err, reason)
	}
}

// renewals counts the renewals that a client asks etcd for.
type renewals struct{ n atomic.Int64 }

func (r *renewals) intercept(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, method string, s grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
	if method == "/etcdserverpb.Lease/LeaseKeepAlive" {
		r.n.Add(1)
	}
	return s(ctx, d, c, method, o...)
}

// namespace returns one of the test's own.
func namespace(tb testing.TB) string {
	tb.Helper()
	return strings.ReplaceAll(etcd.Prefix(tb), "/", "-")
}
