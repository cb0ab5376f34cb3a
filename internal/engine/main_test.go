package engine_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/engine"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// patience bounds every wait of a test: far more than anything takes, so that
// only a hang reaches it.
const patience = 30 * time.Second

func within(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	tb.Cleanup(cancel)
	return ctx
}

const ttl = 20 * time.Second

// newEngine returns an engine on a lease that nobody renews, and a channel that
// gets a value whenever the engine says that the lease is gone.
func newEngine(tb testing.TB, c *clientv3.Client) (*engine.Engine, <-chan struct{}) {
	tb.Helper()
	resp, err := c.Grant(within(tb), int64(ttl/time.Second))
	if err != nil {
		tb.Fatal(err)
	}
	gone := make(chan struct{}, 8)
	e := engine.New(engine.Config{Client: c, Lease: resp.ID, TTL: ttl, Log: slog.New(slog.DiscardHandler),
		Gone: func() { gone <- struct{}{} }})
	tb.Cleanup(func() { e.Close(within(tb)) })
	return e, gone
}

// over reports whether a channel is closed, or becomes so.
func over(tb testing.TB, what string, done <-chan struct{}) {
	tb.Helper()
	select {
	case <-done:
	case <-within(tb).Done():
		tb.Fatalf("never: %s", what)
	}
}
