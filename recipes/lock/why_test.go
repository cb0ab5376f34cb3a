package lock_test

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

func why(tb testing.TB, h *host, ns, name string) *lockv1.WhyResponse {
	tb.Helper()
	resp, err := h.Why(testContext(tb), &lockv1.WhyRequest{Namespace: ns, Name: name})
	if err != nil {
		tb.Fatal(err)
	}
	return resp
}

// waits begins to wait for a name, until the test ends.
func waits(tb testing.TB, s *core.Session, name string, opts ...lock.Option) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if h, err := lock.NewMutex(s, name, opts...).Lock(ctx); err == nil {
			_ = h.Unlock()
		}
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
}

func TestWhy(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	if resp := why(t, h, ns, "jobs"); resp.GetName() != "jobs" || resp.GetKind() != "" || len(resp.GetHolders())+len(resp.GetWaiters()) != 0 {
		t.Errorf("of a free name it says %v", resp)
	}
	s := session(t, "holder", ns)
	held := locked(t, s, "jobs", lock.WithPurpose("import"))
	defer func() { _ = held.Unlock() }()
	later, sooner := session(t, "later", ns), session(t, "sooner", ns)
	waits(t, later, "jobs")
	eventually(t, "one waits", func() bool { return len(why(t, h, ns, "jobs").GetWaiters()) == 1 })
	waits(t, sooner, "jobs", lock.WithPriority(5))
	eventually(t, "two wait", func() bool { return len(why(t, h, ns, "jobs").GetWaiters()) == 2 })
	resp := why(t, h, ns, "jobs")
	if len(resp.GetHolders()) != 1 || len(resp.GetDeadlock()) != 0 || resp.GetKind() != "write" {
		t.Fatalf("it says %v", resp)
	}
	o := resp.GetHolders()[0]
	if o.GetOwner() != "holder" || o.GetToken() != int64(held.Token()) || o.GetPurpose() != "import" || o.GetLease() != int64(s.Lease()) ||
		o.GetHost() == "" || o.GetPid() == 0 || o.GetSince() == nil || o.GetTtl().AsDuration() <= 0 {
		t.Errorf("the holder is %v", o)
	}
	first, second := resp.GetWaiters()[0], resp.GetWaiters()[1]
	if first.GetOwner() != "sooner" || first.GetPriority() != 5 || second.GetOwner() != "later" || first.GetTtl().AsDuration() <= 0 {
		t.Errorf("the waiters are %v", resp.GetWaiters())
	}
	edges := resp.GetWaitsFor()
	if len(edges) != 2 || edges[0].GetWaiter() != "sooner" || edges[0].GetBlocker() != "holder" || !edges[0].GetHolds() ||
		edges[1].GetWaiter() != "later" || edges[1].GetBlocker() != "sooner" || edges[1].GetHolds() {
		t.Errorf("they wait for %v", edges)
	}
}

func TestWhyFindsADeadlock(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	a, b, c := session(t, "a", ns), session(t, "b", ns), session(t, "c", ns)
	for s, name := range map[*core.Session]string{a: "one", b: "two", c: "three"} {
		locked(t, s, name)
	}
	waits(t, a, "two")
	waits(t, b, "three")
	eventually(t, "two wait", func() bool {
		return len(why(t, h, ns, "two").GetWaiters()) == 1 && len(why(t, h, ns, "three").GetWaiters()) == 1
	})
	if d := why(t, h, ns, "two").GetDeadlock(); len(d) != 0 {
		t.Fatalf("without a circle it says %v", d)
	}
	waits(t, c, "one")
	eventually(t, "three wait", func() bool { return len(why(t, h, ns, "one").GetWaiters()) == 1 })
	circle := why(t, h, ns, "one").GetDeadlock()
	if len(circle) != 3 {
		t.Fatalf("the circle is %v", circle)
	}
	for i, e := range circle {
		next := circle[(i+1)%3]
		if e.GetBlockerLease() != next.GetWaiterLease() || !e.GetHolds() {
			t.Errorf("%v is followed by %v", e, next)
		}
	}
	if d := why(t, h, ns, "two").GetDeadlock(); len(d) != 3 {
		t.Errorf("from another name of the circle it is %v", d)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	s := session(t, "holder", ns)
	held := locked(t, s, "jobs", lock.WithPurpose("import"))
	other := locked(t, s, "other")
	stream, err := h.Watch(testContext(t), &lockv1.WatchRequest{Namespace: ns, Prefix: "jo"})
	if err != nil {
		t.Fatal(err)
	}
	next := func() *lockv1.WatchResponse {
		t.Helper()
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	got := next()
	if !got.GetInitial() || got.GetMore() || len(got.GetLocks()) != 1 || got.GetLocks()[0].GetToken() != int64(held.Token()) || got.GetLocks()[0].GetPurpose() != "import" {
		t.Fatalf("it begins with %v", got)
	}
	if err := other.Unlock(); err != nil {
		t.Fatal(err)
	}
	if err := held.Unlock(); err != nil {
		t.Fatal(err)
	}
	free := next()
	if free.GetInitial() || len(free.GetLocks()) != 1 || free.GetLocks()[0].GetName() != "jobs" || free.GetLocks()[0].GetHolderCount() != 0 {
		t.Fatalf("after the release comes %v", free)
	}
	if free.GetRevision() <= got.GetRevision() {
		t.Errorf("revision %d follows %d", free.GetRevision(), got.GetRevision())
	}
	again := locked(t, s, "jobs")
	if got := next(); got.GetLocks()[0].GetToken() != int64(again.Token()) {
		t.Errorf("after the next lock comes %v", got)
	}
	if err := again.Unlock(); err != nil {
		t.Fatal(err)
	}
	next()
	h.StopInstance(t)
	_, err = stream.Recv()
	want(t, err, codes.Unavailable, "recipe_restarting")
}

// TestWatchTellsOfARevocation: a holder learns that it is forced out, from
// whom, and how long it has.
func TestWatchTellsOfARevocation(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	ctx := testContext(t)
	s := session(t, "holder", ns)
	held := locked(t, s, "jobs", lock.WithGrace(lockGrace))
	stream, err := h.Watch(ctx, &lockv1.WatchRequest{Namespace: ns, Name: "jobs"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	forced := make(chan error, 1)
	go func() {
		_, err := h.ForceRelease(ctx, &lockv1.ForceReleaseRequest{Namespace: ns, Name: "jobs", Reason: "stuck", By: "night shift", Token: int64(held.Token())})
		forced <- err
	}()
	var told *lockv1.Revocation
	for told == nil {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		told = resp.GetLocks()[0].GetHolders()[0].GetRevocation()
	}
	if told.GetBy() != "night shift" || told.GetReason() != "stuck" || told.GetGrace().AsDuration() != lockGrace {
		t.Errorf("it is told %v", told)
	}
	<-held.Context().Done()
	_ = held.Unlock() // it lets go within its grace
	if err := <-forced; err != nil {
		t.Fatal(err)
	}
	got := past(t, h, ns, "jobs")
	if len(got) != 1 || got[0].GetCause() != "forced" || got[0].GetBy() != "night shift" || got[0].GetReason() != "stuck" {
		t.Errorf("the history is %v", got)
	}
	_, err = h.ForceRelease(ctx, &lockv1.ForceReleaseRequest{Namespace: ns, Name: "jobs", Reason: "again", Token: int64(held.Token())})
	want(t, err, codes.FailedPrecondition, "stale_token")
	resp, err := h.ForceRelease(ctx, &lockv1.ForceReleaseRequest{Namespace: ns, Name: "jobs", Reason: "again"})
	if err != nil || resp.GetToken() != 0 {
		t.Errorf("forcing a free name gives %v, %v", resp, err)
	}
	again, err := h.Watch(ctx, &lockv1.WatchRequest{Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Recv(); err != nil || !got.GetInitial() || len(got.GetLocks()) != 0 {
		t.Errorf("where nobody holds anything a watch begins with %v, %v", got, err)
	}
}
