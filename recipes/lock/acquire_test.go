package lock_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// acquire owns a name for a caller.
func (h *host) acquire(tb testing.TB, c *caller, name string) int64 {
	tb.Helper()
	resp, err := h.Acquire(c.ctx, &lockv1.AcquireRequest{SessionId: c.id, Namespace: c.s.Namespace(), Name: name})
	if err != nil {
		tb.Fatal(err)
	}
	if resp.GetName() != name || resp.GetMode() != "write" || resp.GetToken() <= 0 {
		tb.Fatalf("Acquire answers %v", resp)
	}
	return resp.GetToken()
}

func (h *host) release(c *caller, name string, token int64) error {
	_, err := h.Release(c.ctx, &lockv1.ReleaseRequest{SessionId: c.id, Namespace: c.s.Namespace(), Name: name, Token: token})
	return err
}

// try owns a name at once or not at all.
func (h *host) try(c *caller, name string) (int64, error) {
	resp, err := h.TryAcquire(c.ctx, &lockv1.TryAcquireRequest{SessionId: c.id, Namespace: c.s.Namespace(), Name: name})
	return resp.GetToken(), err
}

// acquiring is acquire in the background.
func (h *host) acquiring(ctx context.Context, c *caller, name string) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		resp, err := h.Acquire(ctx, &lockv1.AcquireRequest{SessionId: c.id, Namespace: c.s.Namespace(), Name: name})
		answers <- answer{resp.GetToken(), err}
	}()
	return answers
}

// keys returns what stands below a name, and since when.
func keys(tb testing.TB, ns, name string) (all string) {
	tb.Helper()
	for _, kv := range etcd.Dump(tb, fmt.Sprintf("/conclave/%s/lock/%s/", ns, strings.ReplaceAll(name, "/", "%2F"))) {
		all += fmt.Sprintf("%s at %d\n", kv.Key, kv.ModRevision)
	}
	return all
}

type answer struct {
	token int64
	err   error
}

// inLine waits until n wait for a name.
func (h *host) inLine(tb testing.TB, ns, name string, n int) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d wait", n), func() bool { return len(why(tb, h, ns, name).GetWaiters()) == n })
}

func TestAcquireAndRelease(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	a, b := open(t, "a", "default"), open(t, "b", "default")
	token := h.acquire(t, a, name)
	if again := h.acquire(t, a, name); again != token {
		t.Errorf("the same session gets the tokens %d and %d", token, again)
	}
	if again, err := h.try(a, name); err != nil || again != token {
		t.Errorf("trying what it owns it gets %d, %v", again, err)
	}
	before := keys(t, "default", name)
	_, err := h.try(b, name)
	want(t, err, codes.Aborted, "locked")
	if !strings.Contains(err.Error(), "held by a") {
		t.Errorf("the holder is not in %q", err)
	}
	want(t, h.release(b, name, token), codes.FailedPrecondition, "not_owner")
	stale := h.release(a, name, token+1<<16)
	want(t, stale, codes.FailedPrecondition, "stale_token")
	if !strings.Contains(stale.Error(), fmt.Sprint("it is ", token)) {
		t.Errorf("the token is not in %q", stale)
	}
	if now := keys(t, "default", name); now != before {
		t.Errorf("before what was refused stood\n%s\nafter it\n%s", before, now)
	}
	if err := h.release(a, name, token); err != nil {
		t.Fatal(err)
	}
	want(t, h.release(a, name, token), codes.FailedPrecondition, "not_owner")
	next := h.acquire(t, b, name)
	if next <= token {
		t.Errorf("token %d follows %d", next, token)
	}
	want(t, h.release(a, name, token), codes.FailedPrecondition, "not_owner")
	if err := h.release(b, name, next); err != nil {
		t.Fatal(err)
	}
}

// TestLibraryAndService: users of both exclude each other and hand over to each
// other.
func TestLibraryAndService(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	remote, local := open(t, "remote", "default"), session(t, "local", "default")
	token := h.acquire(t, remote, name)
	if _, err := lock.NewMutex(local, name).TryLock(testContext(t)); !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("TryLock of the library: %v", err)
	}
	got := make(chan *lock.Held, 1)
	go func() {
		held, err := lock.NewMutex(local, name).Lock(context.Background())
		if err != nil {
			t.Error(err)
		}
		got <- held
	}()
	h.inLine(t, "default", name, 1)
	if err := h.release(remote, name, token); err != nil {
		t.Fatal(err)
	}
	held := <-got
	_, err := h.try(remote, name)
	want(t, err, codes.Aborted, "locked")
	waiting := h.acquiring(remote.ctx, remote, name)
	h.inLine(t, "default", name, 1)
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	next := <-waiting
	if next.err != nil || next.token <= int64(held.Token()) {
		t.Fatalf("after the library's release: %v", next)
	}
	if err := h.release(remote, name, next.token); err != nil {
		t.Fatal(err)
	}
}

// TestModes goes through readers and permits.
func TestModes(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	a, b := open(t, "a", "default"), open(t, "b", "default")
	tries := func(c *caller, name, mode string, permits, limit int32) (*lockv1.TryAcquireResponse, error) {
		return h.TryAcquire(c.ctx, &lockv1.TryAcquireRequest{SessionId: c.id, Name: name, Mode: mode, Permits: permits, Limit: limit})
	}
	ra, err := tries(a, name, "read", 0, 0)
	if err != nil || ra.GetMode() != "read" {
		t.Fatalf("the first reader: %v, %v", ra, err)
	}
	rb, err := tries(b, name, "read", 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tries(a, name, "write", 0, 0)
	want(t, err, codes.Aborted, "conflict")
	for c, token := range map[*caller]int64{a: ra.GetToken(), b: rb.GetToken()} {
		if err := h.release(c, name, token); err != nil {
			t.Fatal(err)
		}
	}
	sem := name + "-sem"
	pa, err := tries(a, sem, "", 2, 3)
	if err != nil || pa.GetMode() != "permits" || pa.GetPermits() != 2 {
		t.Fatalf("two of three permits: %v, %v", pa, err)
	}
	_, err = tries(b, sem, "permits", 2, 3)
	want(t, err, codes.Aborted, "locked")
	_, err = tries(b, sem, "permits", 1, 4)
	want(t, err, codes.Aborted, "conflict")
	_, err = tries(a, sem, "permits", 1, 3)
	want(t, err, codes.Aborted, "conflict")
	pb, err := tries(b, sem, "", 0, 3)
	if err != nil || pb.GetPermits() != 1 {
		t.Fatalf("the third permit: %v, %v", pb, err)
	}
	for c, token := range map[*caller]int64{a: pa.GetToken(), b: pb.GetToken()} {
		if err := h.release(c, sem, token); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaits(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	a, b := open(t, "a", "default"), open(t, "b", "default")
	token := h.acquire(t, a, name)
	_, err := h.Acquire(b.ctx, &lockv1.AcquireRequest{SessionId: b.id, Name: name, Wait: durationpb.New(0)})
	want(t, err, codes.Aborted, "locked")
	_, err = h.Acquire(b.ctx, &lockv1.AcquireRequest{SessionId: b.id, Name: name, Wait: durationpb.New(50 * time.Millisecond)})
	want(t, err, codes.Aborted, "locked")
	if !strings.Contains(err.Error(), "held by a") || !strings.Contains(err.Error(), "50ms") {
		t.Errorf("after a wait it says %q", err)
	}
	h.inLine(t, "default", name, 0)
	short, cancel := context.WithTimeout(b.ctx, 50*time.Millisecond)
	defer cancel()
	_, err = h.Acquire(short, &lockv1.AcquireRequest{SessionId: b.id, Name: name})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("after the deadline it says %v", err)
	}
	h.inLine(t, "default", name, 0)
	cancelled, stop := context.WithCancel(b.ctx)
	waiting := h.acquiring(cancelled, b, name)
	h.inLine(t, "default", name, 1)
	stop()
	if got := <-waiting; status.Code(got.err) != codes.Canceled {
		t.Errorf("after a cancel it says %v", got.err)
	}
	h.inLine(t, "default", name, 0)
	if err := h.release(a, name, token); err != nil {
		t.Fatal(err)
	}
}

// TestTwoHosts: what one host acquired another one releases, repeats and hands
// over.
func TestTwoHosts(t *testing.T) {
	t.Parallel()
	one, two := startHost(t, etcd.Client(t), nil), startHost(t, etcd.Client(t), nil)
	name := etcd.Prefix(t)
	a, b := open(t, "a", "default"), open(t, "b", "default")
	token := one.acquire(t, a, name)
	if again := two.acquire(t, a, name); again != token {
		t.Errorf("the other host gives the token %d, not %d", again, token)
	}
	waiting := two.acquiring(b.ctx, b, name)
	two.inLine(t, "default", name, 1)
	want(t, two.release(a, name, token+1<<16), codes.FailedPrecondition, "stale_token")
	if err := two.release(a, name, token); err != nil {
		t.Fatal(err)
	}
	want(t, one.release(a, name, token), codes.FailedPrecondition, "not_owner")
	next := <-waiting
	if next.err != nil || next.token <= token {
		t.Fatalf("the one that waited gets %v", next)
	}
	if err := one.release(b, name, next.token); err != nil {
		t.Fatal(err)
	}
}

// TestPlaceOutlivesTheHost: whoever waits at a host that stops keeps the place in
// line, and goes on at the next one.
func TestPlaceOutlivesTheHost(t *testing.T) {
	t.Parallel()
	one, two := startHost(t, etcd.Client(t), nil), startHost(t, etcd.Client(t), nil)
	name := etcd.Prefix(t)
	holder, first, second := open(t, "holder", "default"), open(t, "first", "default"), open(t, "second", "default")
	token := two.acquire(t, holder, name)
	waiting := one.acquiring(first.ctx, first, name)
	two.inLine(t, "default", name, 1)
	later := two.acquiring(second.ctx, second, name)
	two.inLine(t, "default", name, 2)
	one.Stop(t)
	got := <-waiting
	want(t, got.err, codes.Unavailable, "recipe_restarting")
	if w := why(t, two, "default", name).GetWaiters(); len(w) != 2 || w[0].GetOwner() != "first" {
		t.Fatalf("after the stop wait %v", w)
	}
	waiting = two.acquiring(first.ctx, first, name)
	if err := two.release(holder, name, token); err != nil {
		t.Fatal(err)
	}
	got = <-waiting
	if got.err != nil {
		t.Fatal(got.err)
	}
	if err := two.release(first, name, got.token); err != nil {
		t.Fatal(err)
	}
	next := <-later
	if next.err != nil || next.token <= got.token {
		t.Fatalf("the second gets %v after %d", next, got.token)
	}
	if err := two.release(second, name, next.token); err != nil {
		t.Fatal(err)
	}
}

// TestCallsOfOneSession: two calls of one session wait in one place and get one
// token; if one of them goes, the other one stays.
func TestCallsOfOneSession(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	holder, c := open(t, "holder", "default"), open(t, "c", "default")
	token := h.acquire(t, holder, name)
	goes, stop := context.WithCancel(c.ctx)
	first := h.acquiring(goes, c, name)
	h.inLine(t, "default", name, 1)
	second, third := h.acquiring(c.ctx, c, name), h.acquiring(c.ctx, c, name)
	stop()
	if got := <-first; status.Code(got.err) != codes.Canceled {
		t.Errorf("the one that goes gets %v", got)
	}
	if err := h.release(holder, name, token); err != nil {
		t.Fatal(err)
	}
	a, b := <-second, <-third
	if a.err != nil || b.err != nil || a.token != b.token {
		t.Fatalf("they get %v and %v", a, b)
	}
	if err := h.release(c, name, a.token); err != nil {
		t.Fatal(err)
	}
	want(t, h.release(c, name, b.token), codes.FailedPrecondition, "not_owner")
}

func TestSessionThatExpired(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	a, b := open(t, "a", "default"), open(t, "b", "default")
	token := h.acquire(t, a, name)
	waiting := h.acquiring(b.ctx, b, name)
	h.inLine(t, "default", name, 1)
	coretest.ExpireLease(t, etcd.Client(t), a.lease)
	next := <-waiting
	if next.err != nil || next.token <= token {
		t.Fatalf("the one that waited gets %v", next)
	}
	_, err := h.try(a, name+"-other")
	want(t, err, codes.FailedPrecondition, "session_expired")
	if err := h.release(a, name, token); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a release after the expiry: %v", err)
	}
	if err := h.release(b, name, next.token); err != nil {
		t.Fatal(err)
	}
}

// TestCrowd: many callers at two hosts and users of the library take turns, and
// never two at a time.
func TestCrowd(t *testing.T) {
	t.Parallel()
	hosts := []*host{startHost(t, etcd.Client(t), nil), startHost(t, etcd.Client(t), nil)}
	name, resource := etcd.Prefix(t), new(fenced)
	local := session(t, "local", "default")
	var all sync.WaitGroup
	for i := range 8 {
		c := open(t, fmt.Sprintf("caller-%d", i), "default")
		all.Go(func() {
			for k := range 15 {
				got := <-hosts[(i+k)%2].acquiring(c.ctx, c, name)
				if got.err != nil {
					t.Error(got.err)
					return
				}
				resource.use(t, got.token)
				if err := hosts[(i+k/2)%2].release(c, name, got.token); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 2 {
		all.Go(func() {
			for range 15 {
				err := lock.NewMutex(local, name).Do(context.Background(), func(ctx context.Context) error {
					token, _ := core.TokenFrom(ctx)
					resource.use(t, int64(token))
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if resource.uses != 150 {
		t.Errorf("it was used %d times", resource.uses)
	}
}

// fenced is what a lock protects: nothing else does.
type fenced struct {
	inside bool
	last   int64
	uses   int
}

func (f *fenced) use(tb testing.TB, token int64) {
	if f.inside || token <= f.last {
		tb.Errorf("token %d after %d, inside: %v", token, f.last, f.inside)
	}
	f.inside, f.last = true, token
	f.uses++
	f.inside = false
}
