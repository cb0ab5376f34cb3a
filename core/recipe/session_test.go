package recipe_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
)

func caller() recipe.Caller {
	return recipe.Caller{Session: "0b5f", Lease: 0x7587_0123_4567_89ab, TTL: 15 * time.Second, Owner: "billing & co, größe/ß\t1%",
		Namespace: "größe", Identity: "alice"}
}

func from(md metadata.MD) context.Context {
	return metadata.NewIncomingContext(context.Background(), md)
}

func TestCallerTravelsInMetadata(t *testing.T) {
	want := caller()
	want.Namespace = "prod"
	md := want.Metadata()
	for key, values := range md {
		for _, v := range values {
			if strings.ContainsFunc(v, func(c rune) bool { return c < ' ' || c > '~' }) {
				t.Errorf("%s: %q cannot be a header", key, v)
			}
		}
	}
	if got, ok := recipe.CallerFrom(from(md)); !ok || got != want {
		t.Errorf("got %+v, %t", got, ok)
	}
}

func TestCallsWithoutASession(t *testing.T) {
	env := newEnv(t, etcd.Client(t))
	change := func(key, value string) context.Context {
		md := caller().Metadata()
		md.Set(key, value)
		return from(md)
	}
	for name, ctx := range map[string]context.Context{
		"no metadata": context.Background(), "no keys": from(nil), "no lease": change(recipe.MetaLease, ""),
		"lease 0": change(recipe.MetaLease, "0"), "lease in decimal": change(recipe.MetaLease, "99999999999999999999"),
		"no TTL": change(recipe.MetaTTL, ""), "TTL 0": change(recipe.MetaTTL, "0"), "TTL as text": change(recipe.MetaTTL, "15s"),
	} {
		if c, ok := recipe.CallerFrom(ctx); ok {
			t.Errorf("%s: %+v", name, c)
		}
		_, err := recipe.Session(ctx, env)
		if status.Code(err) != codes.InvalidArgument || recipe.Reason(err) != "invalid_session_id" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func newEnv(t *testing.T, c *clientv3.Client) recipe.Env {
	t.Helper()
	env := recipe.NewEnv("presence", c, nil, nil)
	t.Cleanup(env.Close)
	return env
}

func TestSessionIsBorrowed(t *testing.T) {
	c := etcd.Client(t)
	lease, err := c.Grant(within(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	who := recipe.Caller{Session: "s", Lease: lease.ID, TTL: time.Minute, Owner: "billing", Namespace: "prod"}
	env := newEnv(t, c)
	s, err := recipe.Session(from(who.Metadata()), env)
	if err != nil {
		t.Fatal(err)
	}
	if s.Lease() != who.Lease || s.Owner() != who.Owner || s.Namespace() != who.Namespace || s.TTL() != who.TTL {
		t.Errorf("lease %x, owner %q, namespace %q, TTL %v", s.Lease(), s.Owner(), s.Namespace(), s.TTL())
	}
	if again, err := recipe.Session(from(who.Metadata()), env); err != nil || again != s {
		t.Errorf("a second call has another session: %v", err)
	}
	env.Close()
	if cause := context.Cause(s.Context()); !errors.Is(cause, core.ErrSessionClosed) {
		t.Errorf("the session ended by %v", cause)
	}
	if _, err := recipe.Session(from(who.Metadata()), env); recipe.Reason(err) != "recipe_restarting" {
		t.Errorf("after Close: %v", err)
	}
	if left, err := c.TimeToLive(within(t), lease.ID); err != nil || left.TTL <= 0 {
		t.Errorf("the lease ended with the recipe: %v", err)
	}
	coretest.ExpireLease(t, c, lease.ID)
}

func TestSessionNeedsNewEnv(t *testing.T) {
	_, err := recipe.Session(from(caller().Metadata()), recipe.Env{Instance: "presence"})
	if err == nil || !strings.Contains(err.Error(), "NewEnv") {
		t.Errorf("got %v", err)
	}
	recipe.Env{}.Close()
}

func TestNamespace(t *testing.T) {
	none, session := context.Background(), recipe.Caller{Session: "s", Lease: 1, TTL: time.Second, Namespace: "prod"}
	inDefault := session
	inDefault.Namespace = "default"
	for _, c := range []struct {
		ctx             context.Context
		requested, want string // an empty want is a refusal
	}{
		{none, "", "default"}, {none, "prod", "prod"}, {none, "a/b", ""}, {none, "..", ""}, {none, strings.Repeat("x", 256), ""},
		{from(session.Metadata()), "prod", "prod"}, {from(session.Metadata()), "", ""}, {from(session.Metadata()), "other", ""},
		{from(inDefault.Metadata()), "", "default"}, {from(inDefault.Metadata()), "default", "default"},
	} {
		got, err := recipe.Namespace(c.ctx, c.requested)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v", c.requested, got, err)
		}
		if err != nil && (recipe.Reason(err) != "invalid_namespace" || !strings.HasPrefix(status.Convert(err).Message(), "invalid_namespace: namespace: ")) {
			t.Errorf("%q: %v", c.requested, err)
		}
	}
}

func TestKeys(t *testing.T) {
	env := newEnv(t, etcd.Client(t))
	start, end, err := env.Keys("größe")
	if start != "/conclave/gr%C3%B6%C3%9Fe/presence/" || end != "/conclave/gr%C3%B6%C3%9Fe/presence0" || err != nil {
		t.Errorf("%q to %q, %v", start, end, err)
	}
	if key, err := env.Key("default", "team/a"); key != "/conclave/default/presence/team%2Fa/" || err != nil {
		t.Errorf("%q, %v", key, err)
	}
	for _, c := range []struct{ ns, name, reason string }{
		{"", "a", "invalid_namespace"}, {"a/b", "a", "invalid_namespace"}, {"default", "", "invalid_name"}, {"default", "a//b", "invalid_name"},
	} {
		if key, err := env.Key(c.ns, c.name); recipe.Reason(err) != c.reason || key != "" {
			t.Errorf("%q %q: %q, %v", c.ns, c.name, key, err)
		}
	}
	if _, _, err := env.Keys(".."); recipe.Reason(err) != "invalid_namespace" {
		t.Errorf("got %v", err)
	}
}
