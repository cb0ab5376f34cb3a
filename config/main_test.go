package config_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = time.Minute

func within(tb testing.TB) context.Context {
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

// limits is what the tests configure.
type limits struct {
	Rate int `json:"rate"`
}

// positive is the check of limits.
func positive(l limits) error {
	if l.Rate <= 0 {
		return errors.New("rate: is not positive")
	}
	return nil
}

// key is a key of the test's own.
func key(tb testing.TB) string { return strings.Trim(etcd.Prefix(tb), "/") }

// valueKey is where the present version of a key stands.
func valueKey(key string) string { return keyspace.Prefix("default", "config", key) + "value" }

func historyPrefix(key string) string {
	return keyspace.RecipePrefix("default", "config") + "_version/" + keyspace.Escape(key) + "/"
}

func opened(tb testing.TB, c *clientv3.Client, key string, opts ...config.Option) *config.Variable[limits] {
	tb.Helper()
	v := must[*config.Variable[limits]](tb)(config.Open[limits](within(tb), c, key, opts...))
	tb.Cleanup(func() { _ = v.Close() })
	return v
}

// publish publishes JSON, or what only looks like it, past every check.
func publish(tb testing.TB, key, value string) int64 {
	tb.Helper()
	return must[int64](tb)(config.NewStore(etcd.Client(tb)).Publish(within(tb), []config.Change{{Key: key, Value: []byte(value), Codec: "json"}}))
}

func put(tb testing.TB, key, value string) {
	tb.Helper()
	must[*clientv3.PutResponse](tb)(etcd.Client(tb).Put(within(tb), key, value))
}

func del(tb testing.TB, key string) {
	tb.Helper()
	must[*clientv3.DeleteResponse](tb)(etcd.Client(tb).Delete(within(tb), key))
}

// until waits for a snapshot.
func until(tb testing.TB, v *config.Variable[limits], what string, ok func(s *config.Snapshot[limits]) bool) *config.Snapshot[limits] {
	tb.Helper()
	for s, err := range v.Watch(within(tb)) {
		if err != nil {
			tb.Fatalf("never: %s: %v; it is %+v", what, err, *v.Latest())
		}
		if ok(s) {
			return s
		}
	}
	return nil
}

func isAll(tb testing.TB, err error, wanted ...error) {
	tb.Helper()
	for _, w := range wanted {
		if !errors.Is(err, w) {
			tb.Errorf("error %v, want one that is %v", err, w)
		}
	}
}
