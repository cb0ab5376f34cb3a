//go:build unix

package launcher_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
	"github.com/conclavehq/conclave/recipes/lock"
)

// attack tries what a recipe must not, in its own process, and returns what was let
// through: a key of the host, a key of another recipe, one of nobody, and a lease
// of somebody's.
func attack(ctx context.Context, c *clientv3.Client, keys []string, lease clientv3.LeaseID) (n int, through []string) {
	try := func(what string, err error) {
		n++
		if err == nil || !strings.Contains(err.Error(), "permission denied") {
			through = append(through, fmt.Sprintf("%s: %v", what, err))
		}
	}
	for _, key := range keys {
		put, del := clientv3.OpPut(key, "stolen"), clientv3.OpDelete(key)
		own := clientv3.OpGet("/conclave/default/trial/a")
		_, err := c.Get(ctx, key)
		try("get "+key, err)
		_, err = c.Get(ctx, key, clientv3.WithRev(2), clientv3.WithSerializable())
		try("old "+key, err)
		_, err = c.Do(ctx, put)
		try("put "+key, err)
		_, err = c.Put(ctx, key, "", clientv3.WithLease(lease))
		try("attach "+key, err)
		_, err = c.Do(ctx, del)
		try("delete "+key, err)
		_, err = c.Txn(ctx).If(clientv3.Compare(clientv3.Value(key), ">", "a")).Commit()
		try("compare "+key, err)
		_, err = c.Txn(ctx).Else(put).Commit()
		try("else "+key, err)
		_, err = c.Txn(ctx).Then(own, clientv3.OpTxn(nil, []clientv3.Op{clientv3.OpTxn(nil, nil, []clientv3.Op{del})}, nil)).Commit()
		try("nested "+key, err)
		_, err = c.Txn(ctx).Then(clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(key), "=", 0)}, nil, nil)).Commit()
		try("nested compare "+key, err)
		resp := <-c.Watch(ctx, key, clientv3.WithRev(1), clientv3.WithPrevKV(), clientv3.WithCreatedNotify())
		try("watch "+key, resp.Err())
	}
	for _, span := range []struct {
		key string
		opt clientv3.OpOption
	}{
		{"\x00", clientv3.WithFromKey()}, {"", clientv3.WithPrefix()}, {"/conclave/", clientv3.WithPrefix()}, {"/conclave/_host/", clientv3.WithPrefix()},
		{"/conclave/default/", clientv3.WithPrefix()}, {"/conclave/default/trial", clientv3.WithPrefix()}, {"/conclave/default/trial/", clientv3.WithFromKey()},
		{"/conclave/default/trial/a", clientv3.WithRange("/conclave/default/zoo/z")},
	} {
		_, err := c.Get(ctx, span.key, span.opt)
		try("get from "+span.key, err)
		_, err = c.Delete(ctx, span.key, span.opt)
		try("delete from "+span.key, err)
		_, err = c.Txn(ctx).Then(clientv3.OpDelete(span.key, span.opt)).Commit()
		try("delete in a transaction from "+span.key, err)
		resp := <-c.Watch(ctx, span.key, span.opt, clientv3.WithCreatedNotify())
		try("watch from "+span.key, resp.Err())
	}
	for what, err := range attackEtcd(ctx, c, lease) {
		try(what, err)
	}
	return n, through
}

// attackEtcd tries what no recipe may at all.
func attackEtcd(ctx context.Context, c *clientv3.Client, lease clientv3.LeaseID) map[string]error {
	second := func(_ any, err error) error { return err }
	snapshot := func() error {
		r, err := c.Snapshot(ctx)
		if err == nil {
			_, err = r.Read(make([]byte, 1))
		}
		return err
	}
	return map[string]error{
		"revoke":        second(c.Revoke(ctx, lease)),
		"keep alive":    second(c.KeepAliveOnce(ctx, lease)),
		"keys of":       second(c.TimeToLive(ctx, lease, clientv3.WithAttachedKeys())),
		"compact":       second(c.Compact(ctx, 2)),
		"alarms":        second(c.AlarmList(ctx)),
		"move leader":   second(c.MoveLeader(ctx, 1)),
		"downgrade":     second(c.Downgrade(ctx, clientv3.DowngradeEnable, "3.6.0")),
		"snapshot":      snapshot(),
		"members":       second(c.MemberList(ctx)),
		"add member":    second(c.MemberAdd(ctx, []string{"http://127.0.0.1:1"})),
		"remove member": second(c.MemberRemove(ctx, 1)),
		"auth":          second(c.AuthEnable(ctx)),
		"users":         second(c.UserList(ctx)),
		"add user":      second(c.UserAdd(ctx, "root", "mine")),
		"grant root":    second(c.UserGrantRole(ctx, "root", "root")),
		"add role":      second(c.RoleAdd(ctx, "root")),
		"sync":          c.Sync(ctx),
	}
}

// A hostile recipe in its own process reaches nothing that is not its own: the
// store is afterwards what it was.
func TestHostileProcess(t *testing.T) {
	t.Parallel()
	l := newLauncher(t, launcher.Config{})
	p, err := l.Plugin(self(t, "trial", trial{version: "1.0.0"}))
	if err != nil {
		t.Fatal(err)
	}
	// An etcd of its own: nobody else may change it meanwhile.
	e := coretest.StartEtcd(t)
	h := startHostOn(t, e.Endpoint(), p, lock.Recipe{})
	becomes(t, p, recipe.StateReady)
	c := connect(t, h)
	session := openSession(t, c)
	acquire(t, c, session, "held")
	admin := e.Client(t)
	sessions, err := admin.Get(within(t), "/conclave/_host/session/", clientv3.WithPrefix())
	if err != nil || len(sessions.Kvs) != 1 {
		t.Fatalf("%v, %v", sessions, err)
	}
	grants, err := admin.Get(within(t), "/conclave/default/lock/held/", clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err != nil || len(grants.Kvs) != 1 {
		t.Fatalf("%v, %v", grants, err)
	}
	if _, err := admin.Put(within(t), "elsewhere", "mine"); err != nil {
		t.Fatal(err)
	}
	keys := []string{string(sessions.Kvs[0].Key), string(grants.Kvs[0].Key), "elsewhere", "/conclave/default/trial", "/conclave/default/trial2/a"}
	before := everything(t, admin)
	answer, err := do(within(t), c, fmt.Sprintf("attack %x %s", grants.Kvs[0].Lease, strings.Join(keys, " ")))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(answer, "through []") {
		t.Error(answer)
	}
	if after := everything(t, admin); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
	t.Log(answer)
}

// everything is all that stands in an etcd: each key with its revision, and each
// lease.
func everything(t *testing.T, c *clientv3.Client) string {
	t.Helper()
	got, err := c.Get(within(t), "\x00", clientv3.WithFromKey())
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	fmt.Fprintf(&all, "revision %d\n", got.Header.Revision)
	for _, kv := range got.Kvs {
		fmt.Fprintf(&all, "%q %d %x %q\n", kv.Key, kv.ModRevision, kv.Lease, kv.Value)
	}
	leases, err := c.Leases(within(t))
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]int64, 0, len(leases.Leases))
	for _, l := range leases.Leases {
		ids = append(ids, int64(l.ID))
	}
	slices.Sort(ids)
	fmt.Fprintf(&all, "leases %x\n", ids)
	return all.String()
}
