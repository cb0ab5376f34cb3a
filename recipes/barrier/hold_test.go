package barrier_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core/coretest"
)

// A hold keeps callers and users of the library waiting, at every host, until the
// session lets go of it, at another host.
func TestHold(t *testing.T) {
	t.Parallel()
	one, other, name := startHost(t), startHost(t), nameOf(t)
	a, b := open(t, "a"), open(t, "b")
	held := must[*barrierv1.HoldResponse](t)(one.Hold(a.ctx, &barrierv1.HoldRequest{SessionId: a.id, Name: name, Purpose: "loading"}))
	again := must[*barrierv1.HoldResponse](t)(other.Hold(a.ctx, &barrierv1.HoldRequest{SessionId: a.id, Name: name}))
	if held.GetToken() <= 0 || again.GetToken() != held.GetToken() {
		t.Errorf("tokens %d and %d", held.GetToken(), again.GetToken())
	}
	_, err := other.Wait(within(t), &barrierv1.WaitRequest{Name: name, Wait: durationpb.New(0)})
	want(t, err, codes.Aborted, "locked")
	if !strings.Contains(err.Error(), "held by a") {
		t.Errorf("it says %v", err)
	}
	_, err = other.Release(b.ctx, &barrierv1.ReleaseRequest{SessionId: b.id, Name: name, Token: held.GetToken()})
	want(t, err, codes.FailedPrecondition, "not_owner")
	_, err = other.Release(a.ctx, &barrierv1.ReleaseRequest{SessionId: a.id, Name: name, Token: held.GetToken() - 65536})
	want(t, err, codes.FailedPrecondition, "stale_token")
	list := must[*barrierv1.ListResponse](t)(one.List(within(t), &barrierv1.ListRequest{Prefix: name}))
	if s := list.GetBarriers(); len(s) != 1 || s[0].GetPhase() != barrierv1.Phase_PHASE_HELD || s[0].GetThere() != 1 ||
		s[0].GetMembers()[0].GetOwner() != "a" || s[0].GetMembers()[0].GetPurpose() != "loading" || s[0].GetMembers()[0].GetPid() != 0 {
		t.Errorf("it lists %v", s)
	}
	api := background(func() (*barrierv1.WaitResponse, error) {
		return one.Wait(within(t), &barrierv1.WaitRequest{Name: name})
	})
	library := background(func() (struct{}, error) { return struct{}{}, barrier.New(b.s, name).Wait(within(t)) })
	select {
	case got := <-api:
		t.Fatalf("it waited for nobody: %v", got.err)
	case got := <-library:
		t.Fatalf("the library waited for nobody: %v", got.err)
	default:
	}
	must[*barrierv1.ReleaseResponse](t)(other.Release(a.ctx, &barrierv1.ReleaseRequest{SessionId: a.id, Name: name, Token: held.GetToken()}))
	if got := <-api; got.err != nil {
		t.Error(got.err)
	}
	if got := <-library; got.err != nil {
		t.Error(got.err)
	}
	_, err = one.Release(a.ctx, &barrierv1.ReleaseRequest{SessionId: a.id, Name: name, Token: held.GetToken()})
	want(t, err, codes.FailedPrecondition, "not_owner")
}

// A persistent hold stays when its session ends; whoever knows the token releases
// it, and an operator opens what nobody releases.
func TestPersistentHold(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	a, b := open(t, "first"), open(t, "second")
	hold := func(c *caller) int64 {
		return must[*barrierv1.HoldResponse](t)(h.Hold(c.ctx, &barrierv1.HoldRequest{SessionId: c.id, Name: name, Persistent: true})).GetToken()
	}
	first := hold(a)
	hold(b)
	if err := a.s.Close(); err != nil {
		t.Fatal(err)
	}
	there(t, name, "hold/", 2)
	must[*barrierv1.ReleaseResponse](t)(h.Release(b.ctx, &barrierv1.ReleaseRequest{SessionId: b.id, Name: name, Token: first}))
	there(t, name, "hold/", 1)
	if got := must[*barrierv1.OpenResponse](t)(h.Open(within(t), &barrierv1.OpenRequest{Name: name})); got.GetOpened() != 1 {
		t.Errorf("%d holds were taken away", got.GetOpened())
	}
	must[*barrierv1.WaitResponse](t)(h.Wait(within(t), &barrierv1.WaitRequest{Name: name}))
}

// Who waits is told of a holder that was lost.
func TestBrokenHold(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	a := open(t, "doomed")
	must[*barrierv1.HoldResponse](t)(h.Hold(a.ctx, &barrierv1.HoldRequest{SessionId: a.id, Name: name, BreakOnLoss: true}))
	waiting := background(func() (*barrierv1.WaitResponse, error) {
		return h.Wait(within(t), &barrierv1.WaitRequest{Name: name})
	})
	coretest.ExpireLease(t, etcd.Client(t), a.s.Lease())
	got := <-waiting
	want(t, got.err, codes.Aborted, "broken")
	if !strings.Contains(got.err.Error(), "doomed") {
		t.Errorf("it says %v", got.err)
	}
}

// A call that waits when its host stops is told to try another host.
func TestWaitEndsWithItsHost(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	a := open(t, "holder")
	must[*barrierv1.HoldResponse](t)(h.Hold(a.ctx, &barrierv1.HoldRequest{SessionId: a.id, Name: name}))
	waiting := background(func() (*barrierv1.WaitResponse, error) {
		return h.Wait(within(t), &barrierv1.WaitRequest{Name: name, Wait: durationpb.New(time.Minute)})
	})
	h.Stop(t)
	if got := <-waiting; got.err == nil {
		t.Error("it was told that the barrier is open")
	}
	there(t, name, "hold/", 1)
}

// A wait of 0 is a look: what is closed is told at once.
func TestLooksDoNotWait(t *testing.T) {
	t.Parallel()
	h, a, name := startHost(t), open(t, "a"), nameOf(t)
	must[*barrierv1.HoldResponse](t)(h.Hold(a.ctx, &barrierv1.HoldRequest{SessionId: a.id, Name: name}))
	must[*barrierv1.CountDownResponse](t)(h.CountDown(within(t), &barrierv1.CountDownRequest{Name: name, Count: 2, Operation: "x"}))
	const looks = 15 // of each: at a second each they would not be done in time
	ctx, cancel := context.WithTimeout(within(t), 2*looks*time.Second/3)
	defer cancel()
	for range looks {
		_, err := h.Wait(ctx, &barrierv1.WaitRequest{Name: name, Wait: durationpb.New(0)})
		want(t, err, codes.Aborted, "locked")
		_, err = h.Await(ctx, &barrierv1.AwaitRequest{Name: name, Count: 2, Wait: durationpb.New(0)})
		want(t, err, codes.Aborted, "not_ready")
	}
}
