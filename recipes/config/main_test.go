package config_test

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
	"google.golang.org/grpc/status"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	configrecipe "github.com/conclavehq/conclave/recipes/config"
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
	configv1.ConfigServiceClient

	instance recipe.Instance
}

func startHost(tb testing.TB, c *clientv3.Client) *host {
	tb.Helper()
	space, err := scope.New(scope.FromClient(c), "config", nil)
	if err != nil {
		tb.Fatal(err)
	}
	env := recipe.NewEnv("config", space.Client(), nil, nil)
	h, server := new(host), grpc.NewServer()
	if h.instance, err = (configrecipe.Recipe{}).Open(within(tb), env, server); err != nil {
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
	h.ConfigServiceClient = configv1.NewConfigServiceClient(conn)
	tb.Cleanup(func() {
		h.stop(tb)
		_ = conn.Close()
		server.GracefulStop()
		if err := <-done; err != nil {
			tb.Error(err)
		}
		env.Close()
		if err := space.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// stop closes the instance. It is idempotent.
func (h *host) stop(tb testing.TB) {
	tb.Helper()
	if err := h.instance.Close(within(tb)); err != nil {
		tb.Error(err)
	}
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
