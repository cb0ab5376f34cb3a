package discovery_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	discoveryrecipe "github.com/conclavehq/conclave/recipes/discovery"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds every wait; a test that reaches it fails.
const patience = 2 * time.Minute

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

// A host runs the recipe behind gRPC, as a host does, on a client that may touch
// the recipe's keys only.
type host struct {
	discoveryv1.DiscoveryServiceClient

	instance recipe.Instance
	space    *scope.Space
}

func startHost(tb testing.TB, c *clientv3.Client) *host {
	tb.Helper()
	return startHostWith(tb, c, discoveryrecipe.Recipe{}, nil)
}

func startHostWith(tb testing.TB, c *clientv3.Client, r discoveryrecipe.Recipe, cfg proto.Message) *host {
	tb.Helper()
	space, err := scope.New(scope.FromClient(c), "discovery", nil)
	if err != nil {
		tb.Fatal(err)
	}
	env := recipe.NewEnv("discovery", space.Client(), cfg, nil)
	h, server := &host{space: space}, grpc.NewServer()
	if h.instance, err = r.Open(within(tb), env, server); err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		tb.Fatal(err)
	}
	h.DiscoveryServiceClient = discoveryv1.NewDiscoveryServiceClient(conn)
	tb.Cleanup(func() {
		if err := h.instance.Close(within(tb)); err != nil {
			tb.Error(err)
		}
		_ = conn.Close()
		server.GracefulStop()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		env.Close()
		if n := space.Refusals(); len(n) != 0 {
			tb.Errorf("refused: %v", n)
		}
		if err := space.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// caller returns the context of calls under a session of their own, and its lease.
func caller(tb testing.TB) (context.Context, clientv3.LeaseID) {
	tb.Helper()
	lease := must[*clientv3.LeaseGrantResponse](tb)(etcd.Client(tb).Grant(within(tb), 60))
	c := recipe.Caller{Session: "s", Lease: lease.ID, TTL: time.Minute, Owner: "ada", Namespace: "default"}
	return metadata.NewOutgoingContext(within(tb), c.Metadata()), lease.ID
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

// want checks an error's code, reason and text.
func want(tb testing.TB, err error, code codes.Code, reason, text string) {
	tb.Helper()
	if status.Code(err) != code || recipe.Reason(err) != reason || !strings.Contains(status.Convert(err).Message(), text) {
		tb.Errorf("error is %v with the reason %q, want %v with %q and the text %q", err, recipe.Reason(err), code, reason, text)
	}
}

func (h *host) resolve(tb testing.TB, name string) *discoveryv1.ResolveResponse {
	tb.Helper()
	return must[*discoveryv1.ResolveResponse](tb)(h.Resolve(within(tb), &discoveryv1.ResolveRequest{Name: name}))
}
