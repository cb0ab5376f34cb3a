//go:build unix

package launcher_test

import (
	"context"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
	"github.com/conclavehq/conclave/recipes/lock"
)

func openSession(tb testing.TB, c *grpc.ClientConn) string {
	tb.Helper()
	s, err := sessionv1.NewSessionServiceClient(c).Open(within(tb), &sessionv1.OpenRequest{Owner: tb.Name(), Ttl: durationpb.New(patience)})
	if err != nil {
		tb.Fatal(err)
	}
	return s.GetSessionId()
}

// acquire takes a lock, however often the recipe asks to be called again.
func acquire(tb testing.TB, c *grpc.ClientConn, session, name string) int64 {
	tb.Helper()
	token, err := wait(within(tb), c, session, name)
	if err != nil {
		tb.Fatal(err)
	}
	return token
}

func wait(ctx context.Context, c *grpc.ClientConn, session, name string) (int64, error) {
	for {
		got, err := lockv1.NewLockServiceClient(c).Acquire(ctx, &lockv1.AcquireRequest{SessionId: session, Name: name})
		if recipe.Reason(err) != "recipe_restarting" {
			return got.GetToken(), err
		}
	}
}

// What callers own and wait for survives whatever happens to the process: that it
// is killed, replaced, or stopped with its host.
func TestOwnershipsSurvive(t *testing.T) {
	t.Parallel()
	for what, end := range map[string]func(t *testing.T, p *launcher.Plugin){
		"killed": func(t *testing.T, p *launcher.Plugin) {
			t.Helper()
			if err := syscall.Kill(p.Status().PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		},
		"replaced": func(t *testing.T, p *launcher.Plugin) {
			t.Helper()
			if err := p.Restart(within(t)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			h, p := run(t, launcher.Config{Drain: 1}, self(t, "lock", lock.Recipe{}))
			becomes(t, p, recipe.StateReady)
			c := connect(t, h)
			name := "survives-" + what
			owner, first, second := openSession(t, c), openSession(t, c), openSession(t, c)
			token := acquire(t, c, owner, name)
			answers := make(chan string, 2)
			var waiting sync.WaitGroup
			defer waiting.Wait()
			for n, session := range []string{first, second} {
				waiting.Go(func() {
					got, err := wait(within(t), c, session, name)
					if err != nil {
						t.Error(err)
					}
					answers <- session
					if _, err := release(t, c, session, name, got); err != nil {
						t.Error(err)
					}
				})
				waiters(t, c, name, n+1)
			}
			before := places(t, name)
			end(t, p)
			if after := places(t, name); after != before {
				t.Errorf("the line was %s and is %s", before, after)
			}
			if _, err := release(t, c, owner, name, token); err != nil {
				t.Errorf("release: %v", err)
			}
			if one, other := <-answers, <-answers; one != first || other != second {
				t.Error("the line has changed its order")
			}
		})
	}
}

// release gives a lock back, however often the recipe asks to be called again.
func release(t *testing.T, c *grpc.ClientConn, session, name string, token int64) (*lockv1.ReleaseResponse, error) {
	t.Helper()
	for {
		got, err := lockv1.NewLockServiceClient(c).Release(within(t), &lockv1.ReleaseRequest{SessionId: session, Name: name, Token: token})
		if recipe.Reason(err) != "recipe_restarting" {
			return got, err
		}
	}
}

// places is who holds and waits, with the places in line as they stand in etcd.
func places(t *testing.T, name string) string {
	t.Helper()
	all := ""
	for _, kv := range etcd.Dump(t, "/conclave/default/lock/"+name+"/") {
		all += string(kv.Key) + " "
	}
	return all
}

// waiters waits until so many wait.
func waiters(t *testing.T, c *grpc.ClientConn, name string, n int) {
	t.Helper()
	for ctx := within(t); ; {
		got, err := lockv1.NewLockServiceClient(c).List(ctx, &lockv1.ListRequest{Prefix: name})
		if err != nil {
			t.Fatal(err)
		}
		if l := got.GetLocks(); len(l) == 1 && strconv.Itoa(int(l[0].GetWaiters())) == strconv.Itoa(n) {
			return
		}
	}
}

// A host that stops tells those who wait to come again, and leaves their places to
// the next host.
func TestPlacesSurviveTheHost(t *testing.T) {
	t.Parallel()
	const name = "survives-host"
	h, p := run(t, launcher.Config{}, self(t, "lock", lock.Recipe{}))
	becomes(t, p, recipe.StateReady)
	c := connect(t, h)
	owner, waiter := openSession(t, c), openSession(t, c)
	token := acquire(t, c, owner, name)
	told := make(chan error, 1)
	go func() {
		_, err := lockv1.NewLockServiceClient(c).Acquire(within(t), &lockv1.AcquireRequest{SessionId: waiter, Name: name})
		told <- err
	}()
	waiters(t, c, name, 1)
	before := places(t, name)
	if err := h.Stop(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-told; status.Code(err) != codes.Unavailable {
		t.Errorf("the waiter was told %v", err)
	}
	if after := places(t, name); after != before {
		t.Errorf("the line was %s and is %s", before, after)
	}
	next, q := run(t, launcher.Config{}, self(t, "lock", lock.Recipe{}))
	becomes(t, q, recipe.StateReady)
	c = connect(t, next)
	if _, err := release(t, c, owner, name, token); err != nil {
		t.Errorf("release: %v", err)
	}
	if got := acquire(t, c, waiter, name); got <= token {
		t.Errorf("the waiter has the token %d after %d", got, token)
	}
}
