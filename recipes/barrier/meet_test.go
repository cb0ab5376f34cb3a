package barrier_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core/coretest"
)

// enters enters a double barrier of two parties in the background.
func enters(ctx context.Context, h *host, c *caller, name string) <-chan answer[*barrierv1.EnterResponse] {
	return background(func() (*barrierv1.EnterResponse, error) {
		return h.Enter(ctx, &barrierv1.EnterRequest{SessionId: c.id, Name: name, Parties: 2})
	})
}

// Parties at two hosts enter together and leave together, and a call that is
// repeated is the same entry.
func TestDouble(t *testing.T) {
	t.Parallel()
	one, other, name := startHost(t), startHost(t), nameOf(t)
	a, b, c := open(t, "a"), open(t, "b"), open(t, "c")
	for generation := int64(1); generation <= 3; generation++ {
		first := enters(a.ctx, one, a, name)
		there(t, name, "double/in/", 1)
		repeated := enters(a.ctx, other, a, name)
		second := must[*barrierv1.EnterResponse](t)(other.Enter(b.ctx, &barrierv1.EnterRequest{SessionId: b.id, Name: name, Parties: 2}))
		got, same := <-first, <-repeated
		if got.err != nil || same.err != nil || got.resp.GetToken() != same.resp.GetToken() || got.resp.GetGeneration() != generation {
			t.Fatalf("generation %d: %v and %v", generation, got, same)
		}
		_, err := one.Enter(c.ctx, &barrierv1.EnterRequest{SessionId: c.id, Name: name, Parties: 2})
		want(t, err, codes.Aborted, "full")
		leave := &barrierv1.LeaveRequest{SessionId: a.id, Name: name, Token: got.resp.GetToken()}
		leave.Wait = durationpb.New(0)
		_, err = other.Leave(a.ctx, leave)
		want(t, err, codes.Aborted, "not_ready")
		_, err = other.Leave(a.ctx, leave)
		want(t, err, codes.FailedPrecondition, "not_owner")
		stale := &barrierv1.LeaveRequest{SessionId: b.id, Name: name, Token: got.resp.GetToken()}
		_, err = one.Leave(b.ctx, stale)
		want(t, err, codes.FailedPrecondition, "stale_token")
		stale.Token = second.GetToken()
		must[*barrierv1.LeaveResponse](t)(one.Leave(b.ctx, stale))
		there(t, name, "double/in/", 0)
	}
}

// A caller that gives up leaves nothing; a user of the library is a party like any
// other.
func TestDoubleGivenUp(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	a, b := open(t, "a"), open(t, "b")
	_, err := h.Enter(a.ctx, &barrierv1.EnterRequest{SessionId: a.id, Name: name, Parties: 2, Wait: durationpb.New(100 * time.Millisecond)})
	want(t, err, codes.Aborted, "not_ready")
	there(t, name, "double/in/", 0)
	ctx, cancel := context.WithCancel(a.ctx)
	gone := enters(ctx, h, a, name)
	there(t, name, "double/in/", 1)
	_, err = h.Enter(b.ctx, &barrierv1.EnterRequest{SessionId: b.id, Name: name, Parties: 3})
	want(t, err, codes.Aborted, "conflict")
	cancel()
	if got := <-gone; got.err == nil {
		t.Error("who went away was answered")
	}
	there(t, name, "double/in/", 0)
	second := enters(a.ctx, h, a, name)
	entry, err := barrier.NewDouble(b.s, name, 2).Enter(within(t))
	if err != nil {
		t.Fatal(err)
	}
	got := <-second
	if got.err != nil || got.resp.GetGeneration() != entry.Generation() {
		t.Fatalf("%v in generation %d", got, entry.Generation())
	}
	left := background(func() (struct{}, error) { return struct{}{}, entry.Leave(within(t)) })
	must[*barrierv1.LeaveResponse](t)(h.Leave(a.ctx, &barrierv1.LeaveRequest{SessionId: a.id, Name: name, Token: got.resp.GetToken()}))
	if got := <-left; got.err != nil {
		t.Error(got.err)
	}
}

// A host that stops takes no place along: the call is repeated at another host.
func TestPlacesOutliveTheirHost(t *testing.T) {
	t.Parallel()
	doomed, next, name := startHost(t), startHost(t), nameOf(t)
	a, b := open(t, "a"), open(t, "b")
	cut := enters(a.ctx, doomed, a, name)
	there(t, name, "double/in/", 1)
	doomed.Stop(t)
	if got := <-cut; got.err == nil {
		t.Fatal("a host that stopped let one party in")
	}
	there(t, name, "double/in/", 1)
	second := must[*barrierv1.EnterResponse](t)(next.Enter(b.ctx, &barrierv1.EnterRequest{SessionId: b.id, Name: name, Parties: 2}))
	first := must[*barrierv1.EnterResponse](t)(next.Enter(a.ctx, &barrierv1.EnterRequest{SessionId: a.id, Name: name, Parties: 2}))
	if first.GetGeneration() != second.GetGeneration() {
		t.Errorf("generations %d and %d", first.GetGeneration(), second.GetGeneration())
	}
}

// A member that is lost breaks a cyclic barrier for the others, who are told its
// name; the next generation works. An operation is one arrival.
func TestCycle(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	a, b, lost := open(t, "a"), open(t, "b"), open(t, "doomed")
	cycle := func(c *caller, parties int32, operation string) (*barrierv1.CycleResponse, error) {
		return h.Cycle(c.ctx, &barrierv1.CycleRequest{SessionId: c.id, Name: name, Parties: parties, Operation: operation})
	}
	waiting := background(func() (*barrierv1.CycleResponse, error) { return cycle(a, 3, "one") })
	there(t, name, "cyclic/in/", 1)
	gone := background(func() (*barrierv1.CycleResponse, error) { return cycle(lost, 3, "one") })
	there(t, name, "cyclic/in/", 2)
	coretest.ExpireLease(t, etcd.Client(t), lost.s.Lease())
	want(t, (<-waiting).err, codes.Aborted, "broken")
	if got := <-gone; got.err == nil {
		t.Error("who was lost met the others")
	}
	for generation := int64(2); generation <= 4; generation++ {
		operation := string(rune('a' + generation))
		waiting = background(func() (*barrierv1.CycleResponse, error) { return cycle(a, 2, operation) })
		got := must[*barrierv1.CycleResponse](t)(cycle(b, 2, operation))
		met := <-waiting
		again := must[*barrierv1.CycleResponse](t)(cycle(a, 2, operation))
		if met.err != nil || got.GetGeneration() != generation || met.resp.GetGeneration() != generation || again.GetGeneration() != generation {
			t.Errorf("generation %d: %v, %v and again %v", generation, got, met, again)
		}
	}
}
