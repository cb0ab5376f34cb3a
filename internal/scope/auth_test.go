package scope_test

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/scope"
)

// withAuth starts a member with authentication switched on, and returns it and
// root's client.
func withAuth(t *testing.T) (*coretest.Etcd, *clientv3.Client) {
	t.Helper()
	e := coretest.StartEtcd(t)
	c, ctx := e.Client(t), within(t)
	must[*clientv3.AuthUserAddResponse](t)(c.UserAdd(ctx, "root", "secret"))
	must[*clientv3.AuthRoleAddResponse](t)(c.RoleAdd(ctx, "root"))
	must[*clientv3.AuthUserGrantRoleResponse](t)(c.UserGrantRole(ctx, "root", "root"))
	must[*clientv3.AuthEnableResponse](t)(c.AuthEnable(ctx))
	root := must[*clientv3.Client](t)(clientv3.New(clientv3.Config{
		Endpoints: []string{e.Endpoint()}, Username: "root", Password: "secret", Logger: zap.NewNop(),
	}))
	t.Cleanup(func() { _ = root.Close() })
	return e, root
}

// uses are the ways in which a recipe reaches etcd. They write.
func uses(lease clientv3.LeaseID) map[string]func(context.Context, *clientv3.Client) error {
	const key = "/conclave/default/hostile/a/b"
	return map[string]func(context.Context, *clientv3.Client) error{
		"get":    func(ctx context.Context, c *clientv3.Client) error { _, err := c.Get(ctx, key); return err },
		"put":    func(ctx context.Context, c *clientv3.Client) error { _, err := c.Put(ctx, key, "v"); return err },
		"delete": func(ctx context.Context, c *clientv3.Client) error { _, err := c.Delete(ctx, key); return err },
		"txn": func(ctx context.Context, c *clientv3.Client) error {
			_, err := c.Txn(ctx).Then(clientv3.OpPut(key, "v")).Commit()
			return err
		},
		"watch": func(ctx context.Context, c *clientv3.Client) error {
			resp := <-c.Watch(ctx, key, clientv3.WithCreatedNotify())
			return resp.Err()
		},
		"time to live": func(ctx context.Context, c *clientv3.Client) error { _, err := c.TimeToLive(ctx, lease); return err },
	}
}

func TestAuthenticationOnTheMember(t *testing.T) {
	e, root := withAuth(t)
	lease := must[*clientv3.LeaseGrantResponse](t)(root.Grant(within(t), 60)).ID
	before := must[*clientv3.GetResponse](t)(root.Get(within(t), "x")).Header.Revision
	direct := newSpace(t, scope.Backend(e.Member().Direct()), "hostile")
	conn := newSpace(t, scope.FromClient(e.Client(t)), "hostile")
	clients := map[string]*clientv3.Client{
		"direct": direct.Client(), "connection": conn.Client(), "served direct": dial(t, serve(t, direct)), "served connection": dial(t, serve(t, conn)),
	}
	for name, c := range clients {
		for how, use := range uses(lease) {
			if err := use(within(t), c); err == nil || !strings.Contains(err.Error(), "user name is empty") {
				t.Errorf("%s, %s: %v", name, how, err)
			}
		}
		// etcd answers these as it likes; the process must survive them.
		_, _ = c.Leases(within(t))
		if l, err := c.Grant(within(t), 60); err == nil {
			_, _ = c.KeepAliveOnce(within(t), l.ID)
			_, _ = c.TimeToLive(within(t), l.ID, clientv3.WithAttachedKeys())
			_, _ = c.Revoke(within(t), l.ID)
		}
	}
	if after := must[*clientv3.GetResponse](t)(root.Get(within(t), "x")).Header.Revision; after != before {
		t.Errorf("the store went from revision %d to %d", before, after)
	}
	// A host that is logged in serves its recipes as before.
	loggedIn := newSpace(t, scope.FromClient(root), "hostile")
	for how, use := range uses(lease) {
		if err := use(within(t), loggedIn.Client()); err != nil {
			t.Errorf("logged in, %s: %v", how, err)
		}
	}
	must[*clientv3.AuthDisableResponse](t)(root.AuthDisable(within(t)))
	for name, c := range clients {
		for how, use := range uses(lease) {
			if err := use(within(t), c); err != nil {
				t.Errorf("switched off again: %s, %s: %v", name, how, err)
			}
		}
	}
}

// A handler passes the context of its call on. The token in it is the caller's
// and not the recipe's.
func TestTokensOfCallersAreNotUsed(t *testing.T) {
	e, root := withAuth(t)
	lease := must[*clientv3.LeaseGrantResponse](t)(root.Grant(within(t), 60)).ID
	token := must[*clientv3.AuthenticateResponse](t)(root.Authenticate(within(t), "root", "secret")).Token
	direct := newSpace(t, scope.Backend(e.Member().Direct()), "hostile")
	conn := newSpace(t, scope.FromClient(e.Client(t)), "hostile")
	for _, field := range []string{rpctypes.TokenFieldNameGRPC, rpctypes.TokenFieldNameSwagger} {
		md := metadata.Pairs(field, token)
		in, out := metadata.NewIncomingContext(within(t), md), metadata.NewOutgoingContext(within(t), md)
		for name, c := range map[string]struct {
			ctx context.Context
			c   *clientv3.Client
		}{
			"direct": {in, direct.Client()}, "connection": {out, conn.Client()},
			"served direct": {out, dial(t, serve(t, direct))}, "served connection": {out, dial(t, serve(t, conn))},
		} {
			for how, use := range uses(lease) {
				if err := use(c.ctx, c.c); err == nil || !strings.Contains(err.Error(), "user name is empty") {
					t.Errorf("%s, %s with %q: %v", name, how, field, err)
				}
			}
		}
	}
	// The token is good: without the space it opens etcd's own API.
	unguarded := metadata.NewOutgoingContext(within(t), metadata.Pairs(rpctypes.TokenFieldNameGRPC, token))
	if _, err := pb.NewKVClient(e.Client(t).ActiveConnection()).Range(unguarded, &pb.RangeRequest{Key: []byte("x")}); err != nil {
		t.Errorf("the test shows nothing: %v", err)
	}
}

// contextSpy keeps the context of the last read.
type contextSpy struct {
	pb.KVClient
	ctx context.Context
}

func (s *contextSpy) Range(ctx context.Context, r *pb.RangeRequest, opts ...grpc.CallOption) (*pb.RangeResponse, error) {
	s.ctx = ctx
	return s.KVClient.Range(ctx, r, opts...)
}

func TestContextOfACall(t *testing.T) {
	back := scope.FromClient(etcd.Client(t))
	spy := &contextSpy{KVClient: back.KV}
	back.KV = spy
	c := newSpace(t, back, "hostile").Client()

	ctx := context.WithValue(within(t), contextKey{}, "v")
	must[*clientv3.GetResponse](t)(c.Get(ctx, "/conclave/default/hostile/a/b"))
	if spy.ctx != ctx {
		t.Error("a context with nothing to hide is not passed on as it is")
	}

	// As etcd's own server, which panics at a certificate that is not its own kind.
	ctx = peer.NewContext(ctx, &peer.Peer{AuthInfo: credentials.TLSInfo{State: tls.ConnectionState{ServerName: "caller"}}})
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs("token", "secret", "x", "y"))
	ctx = metadata.NewOutgoingContext(clientv3.WithRequireLeader(ctx), metadata.Pairs("hasleader", "true", "token", "secret", "x", "y"))
	ctx, cancel := context.WithCancelCause(ctx)
	must[*clientv3.GetResponse](t)(c.Get(ctx, "/conclave/default/hostile/a/b"))
	if p, ok := peer.FromContext(spy.ctx); ok && p.AuthInfo != nil {
		t.Error("etcd sees the caller's certificate")
	}
	if in, _ := metadata.FromIncomingContext(spy.ctx); len(in) != 0 {
		t.Errorf("etcd sees the call's metadata: %v", in)
	}
	if out, _ := metadata.FromOutgoingContext(spy.ctx); !slices.Equal(slices.Collect(maps.Keys(out)), []string{"hasleader"}) {
		t.Errorf("sent: %v", out)
	}
	stop := errors.New("stop")
	cancel(stop)
	if spy.ctx.Err() == nil || !errors.Is(context.Cause(spy.ctx), stop) || spy.ctx.Value(contextKey{}) != "v" {
		t.Error("the context does not end with the call's, or has lost its values")
	}
}

type contextKey struct{}

// A host needs no more from an external etcd than its own keys.
func TestAUserWithRightsToConclavesKeysOnly(t *testing.T) {
	e, root := withAuth(t)
	ctx := within(t)
	must[*clientv3.AuthUserAddResponse](t)(root.UserAdd(ctx, "conclave", "secret"))
	must[*clientv3.AuthRoleAddResponse](t)(root.RoleAdd(ctx, "conclave"))
	must[*clientv3.AuthUserGrantRoleResponse](t)(root.UserGrantRole(ctx, "conclave", "conclave"))
	must[*clientv3.AuthRoleGrantPermissionResponse](t)(root.RoleGrantPermission(ctx, "conclave",
		keyspace.Root, keyspace.End(keyspace.Root), clientv3.PermissionType(clientv3.PermReadWrite)))
	user := must[*clientv3.Client](t)(clientv3.New(clientv3.Config{
		Endpoints: []string{e.Endpoint()}, Username: "conclave", Password: "secret", Logger: zap.NewNop(),
	}))
	t.Cleanup(func() { _ = user.Close() })
	s := newSpace(t, scope.FromClient(user), "hostile")
	for name, c := range map[string]*clientv3.Client{"in process": s.Client(), "served": dial(t, serve(t, s))} {
		for how, use := range uses(must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 60)).ID) {
			if err := use(ctx, c); err != nil {
				t.Errorf("%s, %s: %v", name, how, err)
			}
		}
		own := c.Watch(ctx, "/conclave/default/hostile/a/b", clientv3.WithCreatedNotify())
		<-own
		if resp := <-c.Watch(ctx, "/conclave/default/queue/a/b"); !errors.Is(resp.Err(), rpctypes.ErrPermissionDenied) {
			t.Errorf("%s: foreign watch: %v", name, resp.Err())
		}
		must[*clientv3.PutResponse](t)(c.Put(ctx, "/conclave/default/hostile/a/b", "v"))
		if resp := <-own; resp.Err() != nil || len(resp.Events) != 1 {
			t.Errorf("%s: own watch: %v, %d events", name, resp.Err(), len(resp.Events))
		}
		lease := must[*clientv3.LeaseGrantResponse](t)(c.Grant(ctx, 60)).ID
		must[*clientv3.LeaseKeepAliveResponse](t)(c.KeepAliveOnce(ctx, lease))
		must[*clientv3.LeaseRevokeResponse](t)(c.Revoke(ctx, lease))
	}
}
