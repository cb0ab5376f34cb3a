package watch_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/conclavehq/conclave/internal/watch"
)

// tokenTTL is how long the tokens of guarded live, in seconds.
const tokenTTL = 1

// guarded starts a member with authentication: root may do everything, and
// worker may touch the test's prefix.
func guarded(t *testing.T) *embed.Etcd {
	t.Helper()
	e, err := member(t.TempDir(), func(cfg *embed.Config) { cfg.AuthTokenTTL = tokenTTL })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	c, ctx, p := client(t, address(e)), ctxOf(t), prefix(t)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"root", "worker"} {
		must(c.UserAdd(ctx, user, "secret"))
		must(c.RoleAdd(ctx, user))
		must(c.UserGrantRole(ctx, user, user))
	}
	perm := clientv3.PermissionType(clientv3.PermReadWrite)
	must(c.RoleGrantPermission(ctx, "worker", p, clientv3.GetPrefixRangeEnd(p), perm))
	must(c.AuthEnable(ctx))
	return e
}

func as(user string) func(*clientv3.Config) {
	return func(cfg *clientv3.Config) { cfg.Username, cfg.Password = user, "secret" }
}

// expire waits until the stream that c's watches share is refused for its token.
// Every try is a use of the token, so tries come less often than its TTL.
func expire(t *testing.T, c *clientv3.Client) {
	t.Helper()
	ctx, cancel := watch.KeysContext(ctxOf(t))
	defer cancel()
	tick := time.NewTicker(2*tokenTTL*time.Second + 500*time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		resp, ok := <-c.Watch(ctx, prefix(t), clientv3.WithCreatedNotify())
		if !ok {
			t.Fatal("the watch ended without a reason")
		}
		if resp.Err() != nil {
			t.Logf("etcd says: %v", resp.Err())
			return
		}
	}
}

func TestExpiredToken(t *testing.T) {
	e := guarded(t)
	c, root, p := client(t, address(e), as("worker")), client(t, address(e), as("root")), prefix(t)
	old, opts := listen(watch.Options{})
	openKey(t, c, p+"a", opts)
	o := observe(t, c, p, watch.ObserveOptions{})
	o.batch(t)
	expire(t, c)

	streams := new(watch.Streams)
	fresh, opts := listen(watch.Options{Streams: streams})
	openKey(t, c, p+"a", opts)
	openKey(t, c, p+"a", opts)
	r := put(t, root, p+"a", "1")
	want := fmt.Sprintf("PUT %sa %q %d", p, "1", r)
	old.want(t, want)
	fresh.want(t, want)
	fresh.want(t, want)
	wantShape(t, o.batch(t), "a=1")
	wantShape(t, observe(t, c, p, watch.ObserveOptions{Streams: streams}).batch(t), "snapshot: a=1")
	if len(old.lost) != 0 {
		t.Errorf("the old watch was lost: %v", <-old.lost)
	}
}

func TestNotPermitted(t *testing.T) {
	e := guarded(t)
	for _, user := range []string{"worker", ""} {
		c := client(t, address(e))
		if user != "" {
			c = client(t, address(e), as(user))
		}
		_, err := watch.Key(ctxOf(t), c, "/elsewhere/", watch.Options{})
		if e, ok := errors.AsType[*watch.LostError](err); !ok || e.Reason != watch.Auth {
			t.Errorf("user %q: Key gave %v", user, err)
		}
		p := receive(t, observe(t, c, "/elsewhere/", watch.ObserveOptions{}).pairs)
		if e, ok := errors.AsType[*watch.LostError](p.err); !ok || e.Reason != watch.Auth {
			t.Errorf("user %q: Observe gave %+v", user, p)
		}
	}
}
