package host_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fill writes until etcd has reached its quota.
func fill(ctx context.Context, t *testing.T, c *clientv3.Client, key func(i int) string) {
	t.Helper()
	value := strings.Repeat("x", 1<<20)
	for i := 0; ; i++ {
		switch _, err := c.Put(ctx, key(i), value); {
		case errors.Is(err, rpctypes.ErrNoSpace):
			return
		case err != nil:
			t.Fatal(err)
		case i == 100:
			t.Fatal("the quota was never reached")
		}
	}
}

// A store that former versions have filled up takes writes again by itself.
func TestFullStoreMakesRoom(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Etcd.QuotaBytes = 16 << 20
	h := start(t, cfg)
	c, ctx := dial(t, h), within(t)
	fill(ctx, t, c, func(int) string { return "k" })
	for {
		_, err := c.Put(ctx, "k", "v")
		if err == nil {
			break
		}
		if !errors.Is(err, rpctypes.ErrNoSpace) {
			t.Fatalf("put: %v", err)
		}
	}
	alarms, err := c.AlarmList(ctx)
	if err != nil || len(alarms.Alarms) > 0 {
		t.Errorf("alarms: %v, %v", alarms, err)
	}
}

// One that keys have filled up stays as it is, and status says so.
func TestFullStoreWithoutRoomIsToldOf(t *testing.T) {
	t.Parallel()
	cfg := config(t)
	cfg.Etcd.QuotaBytes = 16 << 20
	h := start(t, cfg)
	c, ctx := dial(t, h), within(t)
	fill(ctx, t, c, func(i int) string { return fmt.Sprint(i) })
	a := post(t, web(t), h.API(), "host.v1.HostService/Status", "{}")
	if !strings.Contains(a.body, `"no_space"`) {
		t.Errorf("status: %s", a.body)
	}
	if r, err := c.Get(ctx, "0", clientv3.WithCountOnly()); err != nil || r.Count != 1 {
		t.Errorf("a key is gone: %v, %v", r, err)
	}
}
