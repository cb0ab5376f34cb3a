package discovery_test

import (
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	discoveryrecipe "github.com/conclavehq/conclave/recipes/discovery"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) {
	recipetest.Dispatch(discoveryrecipe.Recipe{})
	coretest.Main(m, &etcd)
}

// patience bounds every wait; a test that reaches it fails.
const patience = servicetest.Patience

func within(tb testing.TB) context.Context {
	tb.Helper()
	return servicetest.Context(tb)
}

// A host runs the recipe.
type host struct {
	discoveryv1.DiscoveryServiceClient
	*servicetest.Host
}

func startHost(tb testing.TB, c *clientv3.Client) *host {
	tb.Helper()
	return startHostWith(tb, c, discoveryrecipe.Recipe{}, nil)
}

func startHostWith(tb testing.TB, c *clientv3.Client, r discoveryrecipe.Recipe, cfg proto.Message) *host {
	tb.Helper()
	h := servicetest.Start(tb, r, scope.FromClient(c), cfg)
	return &host{discoveryv1.NewDiscoveryServiceClient(h.Conn), h}
}

// caller returns the context of calls under a session of their own, and its lease.
func caller(tb testing.TB) (context.Context, clientv3.LeaseID) {
	tb.Helper()
	lease := must[*clientv3.LeaseGrantResponse](tb)(etcd.Client(tb).Grant(within(tb), 60))
	c := recipe.Caller{Session: "s", Lease: lease.ID, TTL: time.Minute, Owner: "ada", Namespace: "default"}
	return metadata.NewOutgoingContext(within(tb), c.Metadata()), lease.ID
}

func must[T any](tb testing.TB) func(T, error) T { return servicetest.Must[T](tb) }

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
