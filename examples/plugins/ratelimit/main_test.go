package main

import (
	"context"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// clock is a clock that a test sets.
type clock struct{ now time.Time }

// newClock stands in the middle of a minute.
func newClock() *clock { return &clock{now: time.Date(2026, 11, 23, 12, 0, 30, 0, time.UTC)} }

func (c *clock) read() time.Time { return c.now }

func (c *clock) pass(d time.Duration) { c.now = c.now.Add(d) }

// newLimiter is one host of a fleet, without its sweeper.
func newLimiter(t *testing.T, c *clientv3.Client, clock *clock) *limiter {
	t.Helper()
	env := recipe.NewEnv("ratelimit", c, nil, slog.New(slog.DiscardHandler))
	t.Cleanup(env.Close)
	return &limiter{env: env, share: 5, now: clock.read, stocks: make(map[quotaID]*stock)}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// drain takes one token at a time until there is none, and returns how many
// there were.
func drain(t *testing.T, l *limiter, id quotaID) int64 {
	t.Helper()
	for n := int64(0); ; n++ {
		o, err := l.take(within(t), id, 1)
		if err != nil {
			t.Fatal(err)
		}
		if !o.allowed {
			return n
		}
	}
}

func newQuota(t *testing.T, l *limiter, tokens int64, window time.Duration) quotaID {
	t.Helper()
	id := quotaID{namespace: "default", name: etcd.Prefix(t)}
	if err := l.set(within(t), id, tokens, window, false); err != nil {
		t.Fatal(err)
	}
	return id
}

// registrar takes services and serves none.
type registrar struct{}

func (registrar) RegisterService(*grpc.ServiceDesc, any) {}

func open(t *testing.T, config proto.Message) (recipe.Instance, error) {
	t.Helper()
	env := recipe.NewEnv("ratelimit", etcd.Client(t), config, nil)
	t.Cleanup(env.Close)
	return Recipe{}.Open(within(t), env, registrar{})
}
