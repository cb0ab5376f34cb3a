package queue_test

import (
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/internal/scope"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
	queuerecipe "github.com/conclavehq/conclave/recipes/queue"
)

// faultyHost is a host whose requests to etcd can be made to fail.
func faultyHost(t *testing.T) (*host, *coretest.Faults) {
	t.Helper()
	faults := coretest.NewFaults()
	h := servicetest.Start(t, queuerecipe.Recipe{}, scope.FromClient(etcd.Client(t, faults.DialOptions()...)), nil)
	t.Cleanup(faults.Clear)
	return &host{queuev1.NewQueueServiceClient(h.Conn), h}, faults
}

// An ack that did not reach etcd at first is not called done because of another one, by
// which the same session ended a later delivery of the item.
func TestAckOfAnEarlierDelivery(t *testing.T) {
	t.Parallel()
	one, faults := faultyHost(t)
	other, c, name := startHost(t), open(t, "c"), nameOf(t)
	one.enqueue(t, name, "x")
	item := one.take(t, c, name)
	lost := faults.LoseRequest(coretest.Deletes("/out/"))
	held := faults.Hold(coretest.Deletes("/out/")) // its repetition
	answer := background(func() (*queuev1.AckResponse, error) {
		return one.Ack(c.ctx, &queuev1.AckRequest{SessionId: c.id, Name: name, Id: item.GetId(), Token: item.GetToken()})
	})
	if err := held.Wait(within(t)); err != nil || lost.Fired() != 1 {
		t.Fatalf("%v, %d requests were lost", err, lost.Fired())
	}
	must[*queuev1.ExtendResponse](t)(other.Extend(c.ctx, &queuev1.ExtendRequest{SessionId: c.id, Name: name, Id: item.GetId(), Token: item.GetToken(),
		Visibility: durationpb.New(100 * time.Millisecond)}))
	later := other.take(t, c, name)
	if err := other.ack(c, name, later); err != nil || later.GetToken() == item.GetToken() {
		t.Fatalf("%v, %v", later, err)
	}
	held.Release()
	// A busy machine may need longer than the host waits for etcd: then it does not know.
	if got := <-answer; status.Code(got.err) != codes.FailedPrecondition && status.Code(got.err) != codes.Unknown {
		t.Errorf("the first ack: %v", got.err)
	}
}

// A delivery that stands although its session's key is gone is not called stale: an ack
// of it that is under way may still be applied.
func TestAckWithoutTheSessionsKey(t *testing.T) {
	t.Parallel()
	one, faults := faultyHost(t)
	other, c, name := startHost(t), open(t, "c"), nameOf(t)
	one.enqueue(t, name, "x")
	item := one.take(t, c, name)
	held := faults.Hold(coretest.Deletes("/out/"))
	answer := background(func() (*queuev1.AckResponse, error) {
		return one.Ack(c.ctx, &queuev1.AckRequest{SessionId: c.id, Name: name, Id: item.GetId(), Token: item.GetToken()})
	})
	if err := held.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	prefix := keyspace.Prefix("default", "queue", name) + "here/"
	if resp, err := etcd.Client(t).Delete(within(t), prefix, clientv3.WithPrefix()); err != nil || resp.Deleted != 1 {
		t.Fatalf("%v, %v", resp, err)
	}
	if err := other.ack(c, name, item); err != nil {
		t.Errorf("the second call: %v", err)
	}
	held.Release()
	<-answer // stale, as the history has it: without that key nobody tells an ack from a removal
	if s := other.stats(t, name); s.GetDepth() != 0 || s.GetInFlight() != 0 {
		t.Errorf("stats %v", s)
	}
}

// An ack whose answer was lost is sent again, at any host, and is answered as it was:
// also one that travelled with others. That it happens once is in TestAckEnqueues.
func TestAckIsRepeated(t *testing.T) {
	t.Parallel()
	hosts, name := []*host{startHost(t), startHost(t)}, nameOf(t)
	a := open(t, "a")
	hosts[0].enqueue(t, name, "1", "2", "3", "4", "5", "6")
	items := must[*queuev1.DequeueResponse](t)(hosts[0].Dequeue(a.ctx, &queuev1.DequeueRequest{SessionId: a.id, Name: name, MaxItems: 6})).GetItems()
	for round := range 3 {
		var all sync.WaitGroup
		for n, item := range items {
			all.Go(func() {
				if err := hosts[(round+n)%2].ack(a, name, item); err != nil {
					t.Errorf("round %d: %v", round, err)
				}
			})
		}
		all.Wait()
	}
	if s := hosts[0].stats(t, name); s.GetDepth() != 0 || s.GetInFlight() != 0 {
		t.Errorf("stats %v", s)
	}
}

// What ended otherwise is not said to be done, nor what nobody can know any more.
func TestWhatIsNoRepeatedAck(t *testing.T) {
	t.Parallel()
	h := startHost(t)
	for what, end := range map[string]func(c *caller, name string, item *queuev1.Item){
		"a nack": func(c *caller, name string, item *queuev1.Item) {
			must[*queuev1.NackResponse](t)(h.Nack(c.ctx, &queuev1.NackRequest{SessionId: c.id, Name: name, Id: item.GetId(), Token: item.GetToken()}))
		},
		"a dead letter": func(c *caller, name string, item *queuev1.Item) {
			must[*queuev1.NackResponse](t)(h.Nack(c.ctx, &queuev1.NackRequest{SessionId: c.id, Name: name, Id: item.GetId(), Token: item.GetToken(), Reject: true}))
		},
		"a removal": func(_ *caller, name string, _ *queuev1.Item) {
			must[*queuev1.RemoveResponse](t)(h.Remove(within(t), &queuev1.RemoveRequest{Name: name, Force: true}))
		},
		"a removal without the session's key": func(_ *caller, name string, _ *queuev1.Item) {
			prefix := keyspace.Prefix("default", "queue", name) + "here/"
			if _, err := etcd.Client(t).Delete(within(t), prefix, clientv3.WithPrefix()); err != nil {
				t.Fatal(err)
			}
			must[*queuev1.RemoveResponse](t)(h.Remove(within(t), &queuev1.RemoveRequest{Name: name, Force: true}))
		},
		"another token of it": func(_ *caller, _ string, item *queuev1.Item) { item.Token++ },
		"a later token":       func(_ *caller, _ string, item *queuev1.Item) { item.Token += 1 << 40 },
		"another item":        func(_ *caller, _ string, item *queuev1.Item) { item.Id = "none" },
	} {
		t.Run(what, func(t *testing.T) {
			c, name := open(t, "caller"), nameOf(t)
			h.enqueue(t, name, "x")
			item := h.take(t, c, name)
			end(c, name, item)
			for range 2 {
				want(t, h.ack(c, name, item), codes.FailedPrecondition, "stale_delivery")
			}
		})
	}
}

// Without the history that would tell, it is not said to be done.
func TestAckIsRepeatedAfterACompaction(t *testing.T) {
	h, c, name := startHost(t), open(t, "caller"), nameOf(t)
	h.enqueue(t, name, "x")
	item := h.take(t, c, name)
	if err := h.ack(c, name, item); err != nil {
		t.Fatal(err)
	}
	client := etcd.Client(t)
	put, err := client.Put(within(t), "/compacted/"+name, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Compact(within(t), put.Header.Revision); err != nil {
		t.Fatal(err)
	}
	want(t, h.ack(c, name, item), codes.FailedPrecondition, "stale_delivery")
}
