package config_test

import (
	"context"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	configrecipe "github.com/conclavehq/conclave/recipes/config"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) {
	recipetest.Dispatch(configrecipe.Recipe{})
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
	configv1.ConfigServiceClient
	*servicetest.Host
}

func startHost(tb testing.TB, c *clientv3.Client) *host {
	tb.Helper()
	h := servicetest.Start(tb, configrecipe.Recipe{}, scope.FromClient(c), nil)
	return &host{configv1.NewConfigServiceClient(h.Conn), h}
}

func must[T any](tb testing.TB) func(T, error) T { return servicetest.Must[T](tb) }

// key is a key of the test's own.
func key(tb testing.TB) string { return strings.Trim(etcd.Prefix(tb), "/") }

func (h *host) set(tb testing.TB, key, value string) int64 {
	tb.Helper()
	return must[*configv1.SetResponse](tb)(h.Set(within(tb), &configv1.SetRequest{Key: key, Value: value})).GetRevision()
}

func (h *host) get(tb testing.TB, key string, revision int64) *configv1.Version {
	tb.Helper()
	return must[*configv1.GetResponse](tb)(h.Get(within(tb), &configv1.GetRequest{Key: key, Revision: revision})).GetVersion()
}

func (h *host) history(tb testing.TB, key string) []*configv1.Version {
	tb.Helper()
	return must[*configv1.HistoryResponse](tb)(h.History(within(tb), &configv1.HistoryRequest{Key: key})).GetVersions()
}

// want checks an error's code, reason and text.
func want(tb testing.TB, err error, code codes.Code, reason, text string) {
	tb.Helper()
	if status.Code(err) != code || recipe.Reason(err) != reason || !strings.Contains(status.Convert(err).Message(), text) {
		tb.Errorf("error is %v with the reason %q, want %v with %q and the text %q", err, recipe.Reason(err), code, reason, text)
	}
}
