package scope_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// span is a range in etcd's own words; an empty end stands for the key alone.
type span struct{ key, end string }

// foreign are ranges that the recipe "hostile" must not touch in any way.
func foreign() []span {
	return []span{
		{"", ""}, {"", "\x00"}, {"\x00", ""}, {"\x00", "\x00"}, {"elsewhere", ""},
		{"/conclave", ""}, {"/conclave/", ""}, {"/conclave/", keyspace.End("/conclave/")},
		{"/conclave/_host/session/default/1", ""}, {"/conclave/_host/", keyspace.End("/conclave/_host/")},
		{"/conclave/_host/hostile/a/b", ""}, {"/conclave/_host/hostile/", keyspace.End("/conclave/_host/hostile/")},
		{"/conclave/default/queue/jobs/1", ""},
		{keyspace.RecipePrefix("default", "queue"), keyspace.End(keyspace.RecipePrefix("default", "queue"))},
		// Names that begin as the recipe's does.
		{"/conclave/default/hostile", ""}, {"/conclave/default/hostile2/a/b", ""}, {"/conclave/default/hostil/a/b", ""},
		{"/conclave/default/hostile", "/conclave/default/hostile0"},
		// Ranges that begin in the recipe's keys and end elsewhere.
		{"/conclave/default/hostile/", "\x00"}, {"/conclave/default/hostile/a/b", "\x00"},
		{"/conclave/default/hostile/", "/conclave/default/hostile00"},
		{"/conclave/default/hostile/", "/conclave/default/hostile1"},
		{"/conclave/default/hostile/a", "/conclave/default/queue/"},
		{"/conclave/default/hostile/a", "/conclave/other/hostile/a"},
		{"/conclave/default/hostile/a", "0"},
		{"/conclave/default/hostile/a", "/conclave/default/hostile"},
		// Namespaces that are none, or another spelling of one.
		{"/conclave//hostile/a/b", ""}, {"/conclave/./hostile/a/b", ""}, {"/conclave/../hostile/a/b", ""},
		{"/conclave/%5fhost/hostile/a/b", ""}, {"/conclave/%64efault/hostile/a/b", ""}, {"/conclave/a%2Fb/hostile/a/b", ""},
		{"/conclave/de\x00fault/hostile/a/b", ""}, {"/conclave/default/queue/hostile/a", ""},
		{"/Conclave/default/hostile/a/b", ""}, {"conclave/default/hostile/a/b", ""},
	}
}

func (r span) opts() []clientv3.OpOption {
	if r.end == "" {
		return nil
	}
	return []clientv3.OpOption{clientv3.WithRange(r.end)}
}

// attacks are all the ways to touch a range.
func (r span) attacks() map[string]func(context.Context, *clientv3.Client) error {
	get, del := clientv3.OpGet(r.key, r.opts()...), clientv3.OpDelete(r.key, r.opts()...)
	cmp := clientv3.Compare(clientv3.CreateRevision(r.key), ">", 0)
	if r.end != "" {
		cmp = cmp.WithRange(r.end)
	}
	txn := func(cmps []clientv3.Cmp, then, els []clientv3.Op) func(context.Context, *clientv3.Client) error {
		return func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Txn(ctx).If(cmps...).Then(then...).Else(els...).Commit()
			return err
		}
	}
	all := map[string]func(context.Context, *clientv3.Client) error{
		"get":     func(ctx context.Context, c *clientv3.Client) error { _, err := c.Do(ctx, get); return err },
		"delete":  func(ctx context.Context, c *clientv3.Client) error { _, err := c.Do(ctx, del); return err },
		"compare": txn([]clientv3.Cmp{cmp}, nil, nil),
		"then":    txn(nil, []clientv3.Op{get}, nil),
		"else":    txn(nil, nil, []clientv3.Op{del}),
		"second":  txn(nil, []clientv3.Op{clientv3.OpGet("/conclave/default/hostile/a/b"), del}, nil),
		"watch": func(ctx context.Context, c *clientv3.Client) error {
			resp := <-c.Watch(ctx, r.key, append(r.opts(), clientv3.WithCreatedNotify())...)
			return resp.Err()
		},
		"stream": func(ctx context.Context, c *clientv3.Client) error {
			parts, err := c.KV.GetStream(ctx, r.key, r.opts()...)
			if err != nil {
				return err
			}
			part := <-parts
			return part.Err()
		},
	}
	nested := del
	for depth := range 5 {
		nested = clientv3.OpTxn(nil, nil, []clientv3.Op{nested})
		all[fmt.Sprint("nested ", depth+1)] = txn(nil, []clientv3.Op{nested}, nil)
	}
	all["nested compare"] = txn(nil, []clientv3.Op{clientv3.OpTxn([]clientv3.Cmp{cmp}, nil, nil)}, nil)
	if r.end == "" {
		put := clientv3.OpPut(r.key, "stolen")
		all["put"] = func(ctx context.Context, c *clientv3.Client) error { _, err := c.Do(ctx, put); return err }
		all["put then"] = txn(nil, []clientv3.Op{put}, nil)
		all["put nested"] = txn(nil, []clientv3.Op{clientv3.OpTxn(nil, []clientv3.Op{put}, nil)}, nil)
	}
	return all
}

// victims starts a member in which others own something.
func victims(t *testing.T) *coretest.Etcd {
	t.Helper()
	e := coretest.StartEtcd(t)
	c := e.Client(t)
	for _, key := range []string{
		"elsewhere", "/conclave/_host/session/default/1", "/conclave/default/queue/jobs/1", "/conclave/default/hostile2/a/b",
		"/conclave/other/hostile/a/b",
	} {
		must[*clientv3.PutResponse](t)(c.Put(within(t), key, "mine"))
	}
	return e
}

func TestForeignKeysAreRefused(t *testing.T) {
	e := victims(t)
	before := e.Revision(t)
	for _, k := range carriersOf(t, e, "hostile") {
		t.Run(k.name, func(t *testing.T) {
			tried := 0
			for _, r := range foreign() {
				for how, attack := range r.attacks() {
					if err := attack(within(t), k.c); !errors.Is(err, rpctypes.ErrPermissionDenied) {
						t.Errorf("%s of %q to %q: %v", how, r.key, r.end, err)
					}
					tried++
				}
			}
			counted := uint64(0)
			for _, n := range k.space.Refusals() {
				counted += n
			}
			if counted < uint64(tried) { // clientv3 may ask again for a watch whose stream ends at that moment
				t.Errorf("%d refusals counted of %d: %v", counted, tried, k.space.Refusals())
			}
		})
	}
	if after := e.Revision(t); after != before {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
}

func TestOwnKeysAreAllowed(t *testing.T) {
	for i, k := range carriers(t, "hostile") {
		t.Run(k.name, func(t *testing.T) {
			for _, ns := range []string{"default", "ü", "_host", "a b", fmt.Sprint("ns-", i), "."} {
				if keyspace.CheckNamespace("", ns) != nil {
					continue
				}
				p := keyspace.RecipePrefix(ns, "hostile")
				for _, r := range []span{
					{p + "a/b", ""}, {p, keyspace.End(p)}, {p + "a/", keyspace.End(p + "a/")}, {p + "a/../../queue/b", ""},
				} {
					for how, use := range r.attacks() {
						ctx, cancel := context.WithCancel(within(t))
						if err := use(ctx, k.c); err != nil {
							t.Errorf("%s of %q to %q: %v", how, r.key, r.end, err)
						}
						cancel()
					}
				}
			}
			if n := k.space.Refusals(); len(n) != 0 {
				t.Errorf("refused: %v", n)
			}
		})
	}
}

// Everything beside keys and leases is refused, whatever it is called.
func TestTheRestOfEtcdIsRefused(t *testing.T) {
	e := victims(t)
	before := e.Revision(t)
	for _, k := range carriersOf(t, e, "hostile") {
		t.Run(k.name, func(t *testing.T) {
			ctx, c := within(t), k.c
			for how, attack := range map[string]func() error{
				"compact":           func() error { _, err := c.Compact(ctx, before); return err },
				"member list":       func() error { _, err := c.MemberList(ctx); return err },
				"member add":        func() error { _, err := c.MemberAdd(ctx, []string{"http://127.0.0.1:1"}); return err },
				"member remove":     func() error { _, err := c.MemberRemove(ctx, 1); return err },
				"sync":              func() error { return c.Sync(ctx) },
				"auth enable":       func() error { _, err := c.AuthEnable(ctx); return err },
				"auth status":       func() error { _, err := c.AuthStatus(ctx); return err },
				"user add":          func() error { _, err := c.UserAdd(ctx, "root", "x"); return err },
				"user list":         func() error { _, err := c.UserList(ctx); return err },
				"role grant":        func() error { _, err := c.RoleGrantPermission(ctx, "r", "", "", 0); return err },
				"alarm list":        func() error { _, err := c.AlarmList(ctx); return err },
				"alarm disarm":      func() error { _, err := c.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: 1}); return err },
				"move leader":       func() error { _, err := c.MoveLeader(ctx, 1); return err },
				"downgrade":         func() error { _, err := c.Downgrade(ctx, clientv3.DowngradeValidate, "3.6"); return err },
				"lease with own id": func() error { return grantWithID(ctx, c, 42) },
				"snapshot": func() error {
					r, err := c.SnapshotWithVersion(ctx)
					if err != nil {
						return err
					}
					_, err = r.Snapshot.Read(make([]byte, 1))
					return errors.Join(err, r.Snapshot.Close())
				},
			} {
				if c.ActiveConnection() == nil && how == "lease with own id" {
					continue // this client has no way to say it
				}
				if err := attack(); !errors.Is(err, rpctypes.ErrPermissionDenied) && !errors.Is(err, rpctypes.ErrGRPCPermissionDenied) {
					t.Errorf("%s: %v", how, err)
				}
			}
		})
	}
	if after := e.Revision(t); after != before {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
	if got := must[*clientv3.AuthUserListResponse](t)(e.Client(t).UserList(within(t))).Users; slices.Contains(got, "root") {
		t.Error("a user was added")
	}
}
