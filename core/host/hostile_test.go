package host_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/lock"
)

// hostile is a recipe that means no good.
type hostile struct {
	env   *recipe.Env   // what it was given
	free  chan struct{} // lets what never ends end, after the test
	close func() error  // how its Close behaves; nil: it closes
}

const hostileService = "hostile.v1.HostileService"

// describeHostile registers its service, as generated code would.
var describeHostile = sync.OnceValue(func() error {
	method := func(name string) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{Name: &name, InputType: new(".google.protobuf.Empty"), OutputType: new(".google.protobuf.Empty")}
	}
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("hostile/v1/hostile.proto"), Package: new("hostile.v1"), Syntax: new("proto3"),
		Dependency: []string{"google/protobuf/empty.proto"},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: new("HostileService"),
			Method: []*descriptorpb.MethodDescriptorProto{method("Panic"), method("Wait"), method("Hang")}}},
	}, protoregistry.GlobalFiles)
	if err != nil {
		return err
	}
	return protoregistry.GlobalFiles.RegisterFile(fd)
})

func (*hostile) Info() recipe.Info {
	return recipe.Info{Name: "hostile", Version: "1.0.0", Summary: "Means no good"}
}

func (r *hostile) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if err := describeHostile(); err != nil {
		return nil, err
	}
	*r.env = env
	method := func(name string, f func(context.Context) error) grpc.MethodDesc {
		return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, dec func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			if err := dec(new(emptypb.Empty)); err != nil {
				return nil, err
			}
			return new(emptypb.Empty), f(ctx)
		}}
	}
	reg.RegisterService(&grpc.ServiceDesc{ServiceName: hostileService, HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{
		method("Panic", func(context.Context) error { panic(errors.New("a hostile recipe")) }),
		method("Wait", func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }),
		method("Hang", func(context.Context) error { <-r.free; return nil }),
	}}, r)
	return r, nil
}

func (r *hostile) Close(context.Context) error {
	if r.close == nil {
		return nil
	}
	return r.close()
}

// newHostile returns the recipe; what it keeps from ending ends with the test.
func newHostile(t *testing.T) *hostile {
	t.Helper()
	r := &hostile{env: new(recipe.Env), free: make(chan struct{})}
	t.Cleanup(func() { close(r.free) })
	return r
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
	var ids []int64
	for _, l := range leases.Leases {
		ids = append(ids, int64(l.ID))
	}
	slices.Sort(ids)
	fmt.Fprintf(&all, "leases %x\n", ids)
	return all.String()
}

// find returns the first key below a prefix.
func find(t *testing.T, c *clientv3.Client, prefix string) (key string, lease clientv3.LeaseID) {
	t.Helper()
	got, err := c.Get(within(t), prefix, clientv3.WithPrefix(), clientv3.WithLimit(1))
	if err != nil || len(got.Kvs) == 0 {
		t.Fatalf("%s: %v, %v", prefix, got, err)
	}
	return string(got.Kvs[0].Key), clientv3.LeaseID(got.Kvs[0].Lease)
}

// A hostile recipe in the host's own process reaches nothing that is not its own:
// not the host's records, not another recipe's keys, not a caller's lease, and
// nothing of etcd itself.
func TestHostileRecipeReachesNothing(t *testing.T) {
	t.Parallel()
	r := newHostile(t)
	s := newScene(t, host.WithRecipe(r))
	session, lease := find(t, s.etcd, "/conclave/_host/session/default/")
	grant, _ := find(t, s.etcd, "/conclave/default/lock/held/")
	if _, err := s.etcd.Put(within(t), "elsewhere", "mine"); err != nil {
		t.Fatal(err)
	}
	before := everything(t, s.etcd)
	attacks := slices.Concat(attacksOnKeys(session, grant, "elsewhere", "/conclave/default/hostile"), attacksOnRanges(), attacksOnLeases(lease), attacksOnEtcd())
	for _, a := range attacks {
		ctx, cancel := context.WithTimeout(within(t), patience/3)
		err := a.try(ctx, r.env.Client)
		cancel()
		if !errors.Is(err, rpctypes.ErrPermissionDenied) && !errors.Is(err, rpctypes.ErrGRPCPermissionDenied) {
			t.Errorf("%s: %v", a.what, err)
		}
	}
	if after := everything(t, s.etcd); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
	own, err := r.env.Client.Leases(within(t))
	if err != nil || len(own.Leases) > 0 {
		t.Errorf("it sees the leases %v, %v", own, err)
	}
	if n := len(r.env.Client.Endpoints()); n > 0 || r.env.Client.ActiveConnection() != nil {
		t.Errorf("its client has a connection of its own, and %d endpoints", n)
	}
	const told = `conclave_recipe_refusals_total{kind="lease_keep_alive",recipe="hostile"}`
	if got := get(t, web(t), s.h.API()+"/metrics").Message; !strings.Contains(got, told) {
		t.Error("/metrics says nothing of what was refused")
	}
	// What is its own works, and so does everybody else.
	if _, err := r.env.Client.Put(within(t), "/conclave/default/hostile/a/b", "", clientv3.WithLease(lease)); err != nil {
		t.Errorf("its own key: %v", err)
	}
	released := post(t, web(t), s.h.API(), "lock.v1.LockService/Release", s.ids.Replace(`{"sessionId":"@A","name":"held","token":"@TOKEN"}`))
	if released.status != http.StatusOK {
		t.Errorf("released %+v", released)
	}
}

type attack struct {
	what string
	try  func(ctx context.Context, c *clientv3.Client) error
}

func attacksOnKeys(keys ...string) []attack {
	var all []attack
	for _, key := range keys {
		put, del := clientv3.OpPut(key, "stolen"), clientv3.OpDelete(key)
		for what, try := range map[string]func(context.Context, *clientv3.Client) error{
			"get": func(ctx context.Context, c *clientv3.Client) error { return second(c.Get(ctx, key)) },
			"count": func(ctx context.Context, c *clientv3.Client) error {
				return second(c.Get(ctx, key, clientv3.WithCountOnly()))
			},
			"old": func(ctx context.Context, c *clientv3.Client) error {
				return second(c.Get(ctx, key, clientv3.WithRev(2)))
			},
			"put":    func(ctx context.Context, c *clientv3.Client) error { return second(c.Do(ctx, put)) },
			"delete": func(ctx context.Context, c *clientv3.Client) error { return second(c.Do(ctx, del)) },
			"compare": func(ctx context.Context, c *clientv3.Client) error {
				return second(c.Txn(ctx).If(clientv3.Compare(clientv3.Value(key), ">", "a")).Commit())
			},
			"else": func(ctx context.Context, c *clientv3.Client) error { return second(c.Txn(ctx).Else(put).Commit()) },
			"nested": func(ctx context.Context, c *clientv3.Client) error {
				return second(c.Txn(ctx).Then(clientv3.OpGet("/conclave/default/hostile/a"), clientv3.OpTxn(nil, nil, []clientv3.Op{clientv3.OpTxn(nil, []clientv3.Op{del}, nil)})).Commit())
			},
			"nested compare": func(ctx context.Context, c *clientv3.Client) error {
				return second(c.Txn(ctx).Then(clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.LeaseValue(key), "=", 0)}, nil, nil)).Commit())
			},
			"watch": func(ctx context.Context, c *clientv3.Client) error {
				return watchError(ctx, c, key, clientv3.WithRev(1))
			},
		} {
			all = append(all, attack{what + " " + key, try})
		}
	}
	return all
}

// watchError returns why a watch is refused.
func watchError(ctx context.Context, c *clientv3.Client, key string, opts ...clientv3.OpOption) error {
	resp := <-c.Watch(ctx, key, append(opts, clientv3.WithCreatedNotify())...)
	return resp.Err()
}

func attacksOnRanges() []attack {
	var all []attack
	for _, span := range []struct {
		key string
		opt clientv3.OpOption
	}{
		{"\x00", clientv3.WithFromKey()}, {"", clientv3.WithPrefix()}, {"/conclave/", clientv3.WithPrefix()},
		{"/conclave/_host/", clientv3.WithPrefix()}, {"/conclave/_host/session/", clientv3.WithPrefix()},
		{"/conclave/default/", clientv3.WithPrefix()}, {"/conclave/default/lock/", clientv3.WithPrefix()},
		{"/conclave/default/hostile", clientv3.WithPrefix()}, {"/conclave/default/hostile/", clientv3.WithFromKey()},
		{"/conclave/default/hostile/a", clientv3.WithRange("/conclave/default/lock/z")},
	} {
		for what, try := range map[string]func(context.Context, *clientv3.Client) error{
			"get": func(ctx context.Context, c *clientv3.Client) error { return second(c.Get(ctx, span.key, span.opt)) },
			"keys": func(ctx context.Context, c *clientv3.Client) error {
				return second(c.Get(ctx, span.key, span.opt, clientv3.WithKeysOnly(), clientv3.WithSerializable()))
			},
			"delete": func(ctx context.Context, c *clientv3.Client) error { return second(c.Delete(ctx, span.key, span.opt)) },
			"then": func(ctx context.Context, c *clientv3.Client) error {
				return second(c.Txn(ctx).Then(clientv3.OpDelete(span.key, span.opt)).Commit())
			},
			"watch": func(ctx context.Context, c *clientv3.Client) error {
				return watchError(ctx, c, span.key, span.opt, clientv3.WithPrevKV())
			},
		} {
			all = append(all, attack{fmt.Sprintf("%s a range from %q", what, span.key), try})
		}
	}
	return all
}

func attacksOnLeases(lease clientv3.LeaseID) []attack {
	return []attack{
		{"revoke a session's lease", func(ctx context.Context, c *clientv3.Client) error { return second(c.Revoke(ctx, lease)) }},
		{"keep a session's lease alive once", func(ctx context.Context, c *clientv3.Client) error { return second(c.KeepAliveOnce(ctx, lease)) }},
		{"list what a session owns", func(ctx context.Context, c *clientv3.Client) error {
			return second(c.TimeToLive(ctx, lease, clientv3.WithAttachedKeys()))
		}},
		{"attach another's key to a lease", func(ctx context.Context, c *clientv3.Client) error {
			return second(c.Put(ctx, "/conclave/default/lock/held/x", "", clientv3.WithLease(lease)))
		}},
	}
}

func attacksOnEtcd() []attack {
	simple := func(what string, try func(context.Context, *clientv3.Client) error) attack { return attack{what, try} }
	return []attack{
		simple("compact", func(ctx context.Context, c *clientv3.Client) error { return second(c.Compact(ctx, 2)) }),
		simple("compact physically", func(ctx context.Context, c *clientv3.Client) error {
			return second(c.Compact(ctx, 2, clientv3.WithCompactPhysical()))
		}),
		simple("alarms", func(ctx context.Context, c *clientv3.Client) error { return second(c.AlarmList(ctx)) }),
		simple("disarm", func(ctx context.Context, c *clientv3.Client) error {
			return second(c.AlarmDisarm(ctx, &clientv3.AlarmMember{MemberID: 1}))
		}),
		simple("move the leader", func(ctx context.Context, c *clientv3.Client) error { return second(c.MoveLeader(ctx, 1)) }),
		simple("downgrade", func(ctx context.Context, c *clientv3.Client) error {
			return second(c.Downgrade(ctx, clientv3.DowngradeEnable, "3.6.0"))
		}),
		simple("snapshot", func(ctx context.Context, c *clientv3.Client) error {
			all, err := c.Snapshot(ctx)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, all)
			return errors.Join(err, all.Close())
		}),
		simple("members", func(ctx context.Context, c *clientv3.Client) error { return second(c.MemberList(ctx)) }),
		simple("add a member", func(ctx context.Context, c *clientv3.Client) error {
			return second(c.MemberAdd(ctx, []string{"http://127.0.0.1:1"}))
		}),
		simple("remove a member", func(ctx context.Context, c *clientv3.Client) error { return second(c.MemberRemove(ctx, 1)) }),
		simple("update a member", func(ctx context.Context, c *clientv3.Client) error {
			return second(c.MemberUpdate(ctx, 1, []string{"http://127.0.0.1:1"}))
		}),
		simple("promote a member", func(ctx context.Context, c *clientv3.Client) error { return second(c.MemberPromote(ctx, 1)) }),
		simple("sync", func(ctx context.Context, c *clientv3.Client) error { return c.Sync(ctx) }),
		simple("enable auth", func(ctx context.Context, c *clientv3.Client) error { return second(c.AuthEnable(ctx)) }),
		simple("disable auth", func(ctx context.Context, c *clientv3.Client) error { return second(c.AuthDisable(ctx)) }),
		simple("auth status", func(ctx context.Context, c *clientv3.Client) error { return second(c.AuthStatus(ctx)) }),
		simple("add a user", func(ctx context.Context, c *clientv3.Client) error { return second(c.UserAdd(ctx, "root", "mine")) }),
		simple("users", func(ctx context.Context, c *clientv3.Client) error { return second(c.UserList(ctx)) }),
		simple("grant root", func(ctx context.Context, c *clientv3.Client) error {
			return second(c.UserGrantRole(ctx, "root", "root"))
		}),
		simple("add a role", func(ctx context.Context, c *clientv3.Client) error { return second(c.RoleAdd(ctx, "root")) }),
	}
}

// What a recipe does to its own calls is its own: it panics, it hangs, and others
// are served; and a stop takes no longer than it may.
func TestHostileHandlersHurtNobodyElse(t *testing.T) {
	t.Parallel()
	for name, misbehave := range map[string]func(r *hostile) error{
		"closes":                nil,
		"panics in Close":       func(*hostile) error { panic("a hostile recipe") },
		"does not return of it": func(r *hostile) error { <-r.free; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newHostile(t)
			if misbehave != nil {
				r.close = func() error { return misbehave(r) }
			}
			h, err := host.New(config(t), host.WithRecipe(r), host.WithRecipe(lock.Recipe{}))
			if err == nil {
				err = h.Start(within(t))
			}
			if err != nil {
				t.Fatal(err)
			}
			conn := native(t, h)
			stuck := make(chan error, 2)
			for _, method := range []string{"Wait", "Hang"} {
				go func() {
					stuck <- conn.Invoke(within(t), "/"+hostileService+"/"+method, new(emptypb.Empty), new(emptypb.Empty))
				}()
				inFlight(t, h, method)
			}
			for range 3 {
				err := conn.Invoke(within(t), "/"+hostileService+"/Panic", new(emptypb.Empty), new(emptypb.Empty))
				if status.Code(err) != codes.Internal || recipe.Reason(err) != "recipe_failed" || strings.Contains(err.Error(), "hostile recipe") {
					t.Errorf("a panic was answered %v", err)
				}
			}
			c := newCaller(t, h.API())
			held := c.call(h.API(), "Acquire", `"name":"a"`)
			if held.status != http.StatusOK {
				t.Errorf("acquired %+v", held)
			}
			if released := c.call(h.API(), "Release", fmt.Sprintf(`"name":"a","token":%q`, held.Token)); released.status != http.StatusOK {
				t.Errorf("released %+v", released)
			}
			begun := time.Now()
			if err := h.Stop(within(t)); err != nil {
				t.Error(err) // what a recipe leaves behind is for the log
			}
			if took := time.Since(begun); took > stopBound {
				t.Errorf("the stop took %v", took)
			}
			for range 2 {
				if err := <-stuck; status.Code(err) != codes.Unavailable {
					t.Errorf("a call that did not end: %v", err)
				}
			}
		})
	}
}
