package recipe_test

import (
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/lock"
)

// onOwnKeys returns an Env as a host makes it.
func onOwnKeys(t *testing.T, instance string) (recipe.Env, *scope.Space) {
	t.Helper()
	space, err := scope.New(scope.FromClient(etcd.Client(t)), instance, nil)
	if err != nil {
		t.Fatal(err)
	}
	env := recipe.NewEnv(instance, space.Client(), nil, nil)
	t.Cleanup(func() {
		env.Close()
		if err := space.Close(); err != nil {
			t.Error(err)
		}
	})
	return env, space
}

// newCaller returns a caller with a lease of its own.
func newCaller(t *testing.T, c *clientv3.Client, ns string) recipe.Caller {
	t.Helper()
	lease, err := c.Grant(within(t), 60)
	if err != nil {
		t.Fatal(err)
	}
	return recipe.Caller{Session: "s", Lease: lease.ID, TTL: time.Minute, Owner: "ada", Namespace: ns}
}

func TestARecipeOnItsOwnKeys(t *testing.T) {
	env, space := onOwnKeys(t, "presence")
	server, c := grpc.NewServer(), etcd.Client(t)
	instance, err := Presence{}.Open(within(t), env, server)
	if err != nil {
		t.Fatal(err)
	}
	conn, stop := serve(server)
	defer stop()
	announce := func(who recipe.Caller, room string) (int64, error) {
		here := new(wrapperspb.Int64Value)
		ctx := metadata.NewOutgoingContext(within(t), who.Metadata())
		err := conn.Invoke(ctx, "/example.presence.v1.Presence/Announce", wrapperspb.String(room), here)
		return here.GetValue(), err
	}
	room := etcd.Prefix(t)
	ada, grace := newCaller(t, c, "prod"), newCaller(t, c, "prod")
	for i, who := range []recipe.Caller{ada, grace, ada, newCaller(t, c, "other")} {
		if n, err := announce(who, room); err != nil || n != []int64{1, 2, 2, 1}[i] {
			t.Errorf("call %d: %d, %v", i, n, err)
		}
	}
	if keys := etcd.Dump(t, "/conclave/prod/presence/"+room+"/"); len(keys) != 2 || keys[0].Lease == 0 {
		t.Errorf("%d keys: %v", len(keys), keys)
	}
	coretest.ExpireLease(t, c, ada.Lease)
	if _, err := announce(ada, room); recipe.Reason(err) != "session_expired" || status.Code(err) != codes.FailedPrecondition {
		t.Errorf("after the session: %v", err)
	}
	if n, err := announce(grace, room); err != nil || n != 1 {
		t.Errorf("what the others see: %d, %v", n, err)
	}
	if err := instance.Close(within(t)); err != nil {
		t.Error(err)
	}
	if n := space.Refusals(); len(n) != 0 {
		t.Errorf("refused: %v", n)
	}
}

// The lock library on borrowed sessions needs nothing that a recipe is refused.
func TestALibraryOnBorrowedSessions(t *testing.T) {
	env, space := onOwnKeys(t, "lock")
	c, name := etcd.Client(t), etcd.Prefix(t)
	first, second := newCaller(t, c, "prod"), newCaller(t, c, "prod")
	take := func(who recipe.Caller) (*lock.Held, error) {
		s, err := recipe.Session(from(who.Metadata()), env)
		if err != nil {
			return nil, err
		}
		return lock.NewMutex(s, name).Lock(within(t))
	}
	held, err := take(first)
	if err != nil {
		t.Fatal(err)
	}
	type answer struct {
		held *lock.Held
		err  error
	}
	next := make(chan answer, 1)
	go func() {
		held, err := take(second)
		next <- answer{held, err}
	}()
	coretest.ExpireLease(t, c, first.Lease)
	got := <-next
	if got.err != nil {
		t.Fatal(got.err)
	}
	if got.held.Token() <= held.Token() {
		t.Errorf("token %d after %d", got.held.Token(), held.Token())
	}
	// Whichever of the key and its lease the library misses first.
	err = held.Unlock()
	if why := recipe.Reason(recipe.Status(err)); !errors.Is(err, lock.ErrLost) || why != "session_expired" && why != "not_owner" {
		t.Errorf("unlock of the lost one: %v, reason %q", err, why)
	}
	if err := got.held.Unlock(); err != nil {
		t.Error(err)
	}
	if _, err := take(first); recipe.Reason(recipe.Status(err)) != "session_expired" {
		t.Errorf("on an ended lease: %v", err)
	}
	if n := space.Refusals(); len(n) != 0 {
		t.Errorf("refused: %v", n)
	}
}
