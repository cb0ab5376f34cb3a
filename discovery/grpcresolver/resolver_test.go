package grpcresolver_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/discovery"
	"github.com/conclavehq/conclave/discovery/grpcresolver"
)

func TestMain(m *testing.M) {
	balancer.Register(grpcresolver.NewBalancer("near"))
	coretest.Main(m, nil)
}

const patience = 60 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

func must[T any](tb testing.TB) func(T, error) T {
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// serve starts a gRPC server on a free port and returns its address.
func serve(t *testing.T) string {
	t.Helper()
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// A world is an etcd, a registrar and a client of the service "shop/web".
type world struct {
	config embedded.Config
	member *embedded.Member
	reg    *discovery.Registrar
	conn   *grpc.ClientConn
}

func newWorld(t *testing.T, policy string) *world {
	t.Helper()
	w := &world{config: embedded.Config{Name: "grpc", DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Fast: true, NoFsync: true}}
	w.start(t)
	w.config.ClientAddr = must[*url.URL](t)(url.Parse(w.member.Endpoints()[0])).Host
	t.Cleanup(func() { _ = w.member.Close() })
	dial := func() *clientv3.Client {
		c := must[*clientv3.Client](t)(clientv3.New(clientv3.Config{Endpoints: w.member.Endpoints(), Logger: zap.NewNop()}))
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	s := must[*core.Session](t)(core.NewSession(within(t), dial(), core.WithTTL(5*time.Second)))
	t.Cleanup(func() { _ = s.Close() })
	w.reg = discovery.NewRegistrar(s)
	t.Cleanup(func() { _ = w.reg.Close() })
	r := discovery.NewResolver(dial())
	t.Cleanup(func() { _ = r.Close() })
	w.conn = must[*grpc.ClientConn](t)(grpc.NewClient("conclave:///shop/web", grpc.WithResolvers(grpcresolver.New(r)),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, policy))))
	t.Cleanup(func() { _ = w.conn.Close() })
	return w
}

func (w *world) start(t *testing.T) {
	t.Helper()
	w.member = must[*embedded.Member](t)(embedded.Start(within(t), w.config))
}

func (w *world) register(t *testing.T, i discovery.Instance) *discovery.Registration {
	t.Helper()
	i.Service = "shop/web"
	return must[*discovery.Registration](t)(w.reg.Register(within(t), i))
}

// call makes one call and returns who answered.
func (w *world) call(ctx context.Context) (string, error) {
	var p peer.Peer
	_, err := healthpb.NewHealthClient(w.conn).Check(ctx, &healthpb.HealthCheckRequest{}, grpc.Peer(&p), grpc.WaitForReady(true))
	if err != nil {
		return "", err
	}
	return p.Addr.String(), nil
}

// answer calls until exactly these have answered in a row of calls.
func (w *world) answer(t *testing.T, addrs ...string) {
	t.Helper()
	ctx := within(t)
	for {
		seen := map[string]bool{}
		for range 40 * len(addrs) {
			seen[must[string](t)(w.call(ctx))] = true
		}
		right := len(seen) == len(addrs)
		for _, a := range addrs {
			right = right && seen[a]
		}
		if right {
			return
		}
	}
}

func TestAClientFollows(t *testing.T) {
	for _, policy := range []string{"round_robin", grpcresolver.BalancerName} {
		t.Run(policy, func(t *testing.T) {
			w := newWorld(t, policy)
			quick, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			if who, err := w.call(quick); status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("without an instance: %q, %v", who, err)
			}
			a, b, c := serve(t), serve(t), serve(t)
			one := w.register(t, discovery.Instance{Addr: a})
			w.register(t, discovery.Instance{Addr: b, Weight: 3})
			w.answer(t, a, b)
			if err := one.Deregister(); err != nil {
				t.Fatal(err)
			}
			w.register(t, discovery.Instance{Addr: c})
			w.answer(t, b, c)
		})
	}
}

// Calls go on while etcd is away, and what changes after its return is seen.
func TestAClientRidesThroughAnOutage(t *testing.T) {
	w := newWorld(t, "round_robin")
	a, b, c := serve(t), serve(t), serve(t)
	w.register(t, discovery.Instance{Addr: a})
	gone := w.register(t, discovery.Instance{Addr: b})
	w.answer(t, a, b)
	if err := w.member.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, calls := within(t), 0
	for end := time.Now().Add(7 * time.Second); time.Now().Before(end); calls++ { // more than a TTL
		must[string](t)(w.call(ctx))
	}
	w.start(t)
	w.answer(t, a, b)
	if err := gone.Deregister(); err != nil {
		t.Fatal(err)
	}
	w.register(t, discovery.Instance{Addr: c})
	w.answer(t, a, c)
	t.Logf("%d calls while etcd was away, none failed", calls)
}

func TestTheBalancerPrefersItsZone(t *testing.T) {
	w := newWorld(t, grpcresolver.BalancerName)
	a, b := serve(t), serve(t)
	w.register(t, discovery.Instance{Addr: a, Zone: "far"})
	w.answer(t, a)
	near := w.register(t, discovery.Instance{Addr: b, Zone: "near"})
	w.answer(t, b)
	if err := near.Deregister(); err != nil {
		t.Fatal(err)
	}
	w.answer(t, a)
}

func TestTargetsThatNameNoService(t *testing.T) {
	for _, target := range []string{"conclave:///", "conclave://host/web"} {
		conn, err := grpc.NewClient(target, grpc.WithResolvers(grpcresolver.New(nil)), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err == nil {
			_, err = healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{})
			_ = conn.Close()
		}
		if err == nil {
			t.Errorf("%s: no error", target)
		}
	}
}
