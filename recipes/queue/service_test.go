package queue_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/queue"
)

// enqueue puts values, and returns their ids.
func (h *host) enqueue(tb testing.TB, name string, values ...string) []string {
	tb.Helper()
	req := &queuev1.EnqueueRequest{Name: name}
	for _, v := range values {
		req.Items = append(req.Items, &queuev1.Put{Value: v})
	}
	return must[*queuev1.EnqueueResponse](tb)(h.Enqueue(within(tb), req)).GetIds()
}

// take takes one item.
func (h *host) take(tb testing.TB, c *caller, name string) *queuev1.Item {
	tb.Helper()
	resp := must[*queuev1.DequeueResponse](tb)(h.Dequeue(c.ctx, &queuev1.DequeueRequest{SessionId: c.id, Name: name}))
	return resp.GetItems()[0]
}

func (h *host) ack(c *caller, name string, item *queuev1.Item, follows ...*queuev1.Follow) error {
	return second(h.Ack(c.ctx, &queuev1.AckRequest{SessionId: c.id, Name: name, Id: item.GetId(), Token: item.GetToken(), Enqueue: follows}))
}

func (h *host) stats(tb testing.TB, name string) *queuev1.StatsResponse {
	tb.Helper()
	return must[*queuev1.StatsResponse](tb)(h.Stats(within(tb), &queuev1.StatsRequest{Name: name}))
}

// A queue is removed while it is empty, or with all that is in it.
func TestRemove(t *testing.T) {
	t.Parallel()
	h, c, name := startHost(t), open(t, "caller"), nameOf(t)
	remove := func(force bool) (*queuev1.RemoveResponse, error) {
		return h.Remove(within(t), &queuev1.RemoveRequest{Name: name, Force: force})
	}
	want(t, second(remove(false)), codes.NotFound, "not_found")
	h.enqueue(t, name, "first", "second")
	want(t, second(remove(false)), codes.Aborted, "conflict")
	item := h.take(t, c, name)
	resp := must[*queuev1.RemoveResponse](t)(remove(true))
	if resp.GetItems() != 2 || resp.GetDead() != 0 {
		t.Errorf("deleted %v", resp)
	}
	want(t, h.ack(c, name, item), codes.FailedPrecondition, "stale_delivery")
	want(t, second(remove(true)), codes.NotFound, "not_found")
	h.enqueue(t, name, "third")
	if item = h.take(t, c, name); item.GetValue() != "third" {
		t.Errorf("the new queue has %v", item)
	}
	if err := h.ack(c, name, item); err != nil {
		t.Error(err)
	}
	want(t, second(remove(false)), codes.Aborted, "conflict") // the caller consumes it
	if err := c.s.Close(); err != nil {
		t.Fatal(err)
	}
	must[*queuev1.RemoveResponse](t)(remove(false))
}

// A forced removal that fails half way tells what is gone.
func TestRemoveHalfWay(t *testing.T) {
	t.Parallel()
	remove := func(ctx context.Context, h *host, name string, code codes.Code, reason string) {
		t.Helper()
		h.enqueue(t, name, "first", "second")
		_, err := h.Remove(ctx, &queuev1.RemoveRequest{Name: name, Force: true})
		want(t, err, code, reason)
		if !strings.Contains(err.Error(), "; known to be deleted: items 2, dead letters 0") {
			t.Errorf("it does not tell what was deleted: %v", err)
		}
	}
	h, faults := faultyHost(t)
	faults.LoseReply(coretest.Deletes("/fill"))
	remove(within(t), h, nameOf(t), codes.Unknown, "outcome_unknown")
	faults.Hold(coretest.Deletes("/fill"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	remove(ctx, h, nameOf(t), codes.DeadlineExceeded, "timeout")
}

func second[T any](_ T, err error) error { return err }

// What one host delivers another one takes the ack of, once, and from nobody else.
func TestAckAtAnotherHost(t *testing.T) {
	t.Parallel()
	one, other, name := startHost(t), startHost(t), nameOf(t)
	a, b := open(t, "a"), open(t, "b")
	ids := one.enqueue(t, name, "first", "second")
	item := one.take(t, a, name)
	if item.GetId() != ids[0] || item.GetValue() != "first" || item.GetAttempt() != 1 || item.GetToken() <= 0 {
		t.Fatalf("it delivers %v", item)
	}
	want(t, other.ack(b, name, item), codes.FailedPrecondition, "stale_delivery")
	stale := &queuev1.Item{Id: item.GetId(), Token: item.GetToken() + 65536}
	want(t, other.ack(a, name, stale), codes.FailedPrecondition, "stale_delivery")
	if err := other.ack(a, name, item); err != nil {
		t.Fatal(err)
	}
	if err := one.ack(a, name, item); err != nil {
		t.Errorf("the same ack once more: %v", err)
	}
	if s := one.stats(t, name); s.GetDepth() != 1 || s.GetReady() != 1 || s.GetInFlight() != 0 {
		t.Errorf("stats %v", s)
	}
}

// What an ack enqueues comes with the ack, and not with one that is late.
func TestAckEnqueues(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	a := open(t, "a")
	h.enqueue(t, name, "raw")
	follow := &queuev1.Follow{Name: name + "/next", Item: &queuev1.Put{Value: "cooked"}}
	item := h.take(t, a, name)
	if err := h.ack(a, name, item, follow); err != nil {
		t.Fatal(err)
	}
	if err := h.ack(a, name, item, follow); err != nil {
		t.Errorf("the same ack once more: %v", err)
	}
	if got := h.take(t, a, name+"/next"); got.GetValue() != "cooked" {
		t.Errorf("it delivers %v", got)
	}
	_, err := h.Dequeue(a.ctx, &queuev1.DequeueRequest{SessionId: a.id, Name: name + "/next", Wait: durationpb.New(0)})
	want(t, err, codes.Aborted, "empty")
	_, err = h.Dequeue(a.ctx, &queuev1.DequeueRequest{SessionId: a.id, Name: name, Wait: durationpb.New(50 * time.Millisecond)})
	want(t, err, codes.Aborted, "empty")
}

// An item comes back with its session's end, with its visibility's, and by a nack;
// one that had its attempts is a dead letter, with the reason, until it is put
// back.
func TestItemsComeBack(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	doomed, a := open(t, "doomed"), open(t, "a")
	id := h.enqueue(t, name, "tough")[0]
	h.take(t, doomed, name)
	coretest.ExpireLease(t, etcd.Client(t), doomed.s.Lease())
	item := h.take(t, a, name)
	if item.GetId() != id || item.GetAttempt() != 2 {
		t.Fatalf("after the session: %v", item)
	}
	must[*queuev1.ExtendResponse](t)(h.Extend(a.ctx, &queuev1.ExtendRequest{SessionId: a.id, Name: name, Id: id, Token: item.GetToken(),
		Visibility: durationpb.New(100 * time.Millisecond)}))
	again := h.take(t, a, name)
	if again.GetId() != id || again.GetAttempt() != 3 || again.GetToken() <= item.GetToken() {
		t.Fatalf("after its visibility: %v", again)
	}
	want(t, h.ack(a, name, item), codes.FailedPrecondition, "stale_delivery")
	must[*queuev1.NackResponse](t)(h.Nack(a.ctx, &queuev1.NackRequest{SessionId: a.id, Name: name, Id: id, Token: again.GetToken(), Reason: "not yet"}))
	last := h.take(t, a, name)
	if last.GetAttempt() != 4 || last.GetReason() != "not yet" {
		t.Fatalf("after a nack: %v", last)
	}
	must[*queuev1.NackResponse](t)(h.Nack(a.ctx, &queuev1.NackRequest{SessionId: a.id, Name: name, Id: id, Token: last.GetToken(),
		Reason: "never", MaxAttempts: 4}))
	dead := must[*queuev1.PeekResponse](t)(h.Peek(within(t), &queuev1.PeekRequest{Name: name, Dead: true})).GetItems()
	if len(dead) != 1 || dead[0].GetId() != id || !strings.HasSuffix(dead[0].GetReason(), "never") || dead[0].GetValue() != "tough" || dead[0].GetAttempts() != 4 {
		t.Fatalf("dead letters: %v", dead)
	}
	if n := must[*queuev1.RequeueResponse](t)(h.Requeue(within(t), &queuev1.RequeueRequest{Name: name, Ids: []string{id}})).GetRequeued(); n != 1 {
		t.Errorf("%d were put back", n)
	}
	if back := h.take(t, a, name); back.GetId() != id || back.GetAttempt() != 1 {
		t.Errorf("it came back as %v", back)
	}
}

// A stream delivers as much as was settled, at whatever host.
func TestConsumeIsPaidByAcks(t *testing.T) {
	t.Parallel()
	one, other, name := startHost(t), startHost(t), nameOf(t)
	a := open(t, "a")
	const items, credits = 20, 3
	for range items {
		one.enqueue(t, name, "x")
	}
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	stream, err := one.Consume(ctx, &queuev1.ConsumeRequest{SessionId: a.id, Name: name, Credits: credits})
	if err != nil {
		t.Fatal(err)
	}
	var unsettled []*queuev1.Item
	for n := range items {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if unsettled = append(unsettled, resp.GetItem()); len(unsettled) < credits && n < items-1 {
			continue
		}
		if s := other.stats(t, name); s.GetInFlight() > credits {
			t.Errorf("%d are delivered, for %d credits", s.GetInFlight(), credits)
		}
		if err := other.ack(a, name, unsettled[0]); err != nil {
			t.Fatal(err)
		}
		unsettled = unsettled[1:]
	}
	for _, item := range unsettled {
		if err := one.ack(a, name, item); err != nil {
			t.Error(err)
		}
	}
	cancel()
	if s := other.stats(t, name); s.GetDepth() != 0 {
		t.Errorf("%d are left", s.GetDepth())
	}
}

// A host that stops ends its streams, and takes no delivery along.
func TestDeliveriesOutliveTheirHost(t *testing.T) {
	t.Parallel()
	doomed, next, name := startHost(t), startHost(t), nameOf(t)
	a := open(t, "a")
	doomed.enqueue(t, name, "x", "y")
	stream, err := doomed.Consume(a.ctx, &queuev1.ConsumeRequest{SessionId: a.id, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	first := must[*queuev1.ConsumeResponse](t)(stream.Recv()).GetItem()
	doomed.Stop(t)
	if _, err := stream.Recv(); err == nil {
		t.Error("a host that stopped delivers")
	}
	if err := next.ack(a, name, first); err != nil {
		t.Error(err)
	}
	if second := next.take(t, a, name); second.GetValue() != "y" {
		t.Errorf("it delivers %v", second)
	}
}

// What was taken for a caller that went away goes back at once.
func TestCallerThatWentAway(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	a, b := open(t, "a"), open(t, "b")
	ctx, cancel := context.WithCancel(a.ctx)
	gone := background(func() (*queuev1.DequeueResponse, error) {
		return h.Dequeue(ctx, &queuev1.DequeueRequest{SessionId: a.id, Name: name})
	})
	for h.stats(t, name).GetConsumers() == 0 {
		if within(t).Err() != nil {
			t.Fatal("nobody waits")
		}
	}
	cancel()
	if got := <-gone; got.err == nil {
		t.Error("who went away was answered")
	}
	h.enqueue(t, name, "x")
	if item := h.take(t, b, name); item.GetValue() != "x" {
		t.Errorf("it delivers %v", item)
	}
}

// An item with an id is put once, a full queue says so or is waited for, a paused
// one delivers nothing; callers share all that with the library.
func TestBoundsAndPauses(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	a := open(t, "a")
	once := &queuev1.EnqueueRequest{Name: name, Capacity: 1, Items: []*queuev1.Put{{Value: "x", DedupId: "d"}}}
	first := must[*queuev1.EnqueueResponse](t)(h.Enqueue(within(t), once)).GetIds()[0]
	if again := must[*queuev1.EnqueueResponse](t)(h.Enqueue(within(t), once)).GetIds()[0]; again != first {
		t.Errorf("ids %s and %s", first, again)
	}
	more := &queuev1.EnqueueRequest{Name: name, Capacity: 1, Items: []*queuev1.Put{{Value: "y"}}}
	_, err := h.Enqueue(within(t), more)
	want(t, err, codes.Aborted, "full")
	more.Wait = durationpb.New(2 * time.Second)
	_, err = h.Enqueue(within(t), more)
	want(t, err, codes.Aborted, "full")
	more.Wait = durationpb.New(time.Minute)
	waiting := background(func() (*queuev1.EnqueueResponse, error) { return h.Enqueue(within(t), more) })
	item, err := queue.New[string](a.s, name, queue.WithCodec(core.Text{})).Dequeue(within(t))
	if err != nil || item.Value != "x" || string(item.ID) != first {
		t.Fatalf("a user of the library takes %v, %v", item, err)
	}
	if err := item.Reject(within(t), "no"); err != nil {
		t.Fatal(err)
	}
	if got := <-waiting; got.err != nil {
		t.Fatal(got.err)
	}
	if n := must[*queuev1.DropResponse](t)(h.Drop(within(t), &queuev1.DropRequest{Name: name, All: true})).GetDropped(); n != 1 {
		t.Errorf("%d dead letters were dropped", n)
	}
	must[*queuev1.PauseResponse](t)(h.Pause(within(t), &queuev1.PauseRequest{Name: name}))
	_, err = h.Dequeue(a.ctx, &queuev1.DequeueRequest{SessionId: a.id, Name: name, Wait: durationpb.New(0)})
	want(t, err, codes.Aborted, "empty")
	must[*queuev1.ResumeResponse](t)(h.Resume(within(t), &queuev1.ResumeRequest{Name: name}))
	if item := h.take(t, a, name); item.GetValue() != "y" {
		t.Errorf("it delivers %v", item)
	}
	list := must[*queuev1.ListResponse](t)(h.List(within(t), &queuev1.ListRequest{Prefix: name}))
	if names := list.GetNames(); len(names) != 1 || names[0] != name {
		t.Errorf("it lists %q", names)
	}
}
