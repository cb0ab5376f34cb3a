package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/queue"
)

// A split, like every step, is repeated until its outcome is known.
func TestASplitInDoubt(t *testing.T) {
	for what, lose := range map[string]func(*coretest.Faults) *coretest.Fault{
		"reply":   func(f *coretest.Faults) *coretest.Fault { return f.LoseReply(coretest.Deletes("/outs/")) },
		"request": func(f *coretest.Faults) *coretest.Fault { return f.LoseRequest(coretest.Deletes("/outs/")) },
	} {
		t.Run(what, func(t *testing.T) {
			s, faults := faulty(t)
			q := queue.New[string](s, etcd.Prefix(t))
			items := bundled(t, q, 5)
			effect := "/effect/" + q.Name()
			lost := lose(faults)
			if err := items[3].Ack(within(t), clientv3.OpPut(effect, "v")); err != nil {
				t.Error(err)
			}
			if err := queue.AckAll(within(t), append(slices.Clone(items[:3]), items[4])); err != nil {
				t.Error(err)
			}
			settled(t, items)
			if kvs := etcd.Dump(t, effect); lost.Fired() != 1 || len(kvs) != 1 || kvs[0].Version != 1 {
				t.Errorf("%d lost, effects %v", lost.Fired(), kvs)
			}
			only(t, q, 1)
		})
	}
}

// givenUp acks items together, and gives that up while the request is under way.
func givenUp(t *testing.T, items []*queue.Item[string], underWay interface{ Wait(context.Context) error }) {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t))
	answer := make(chan error, 1)
	go func() { answer <- queue.AckAll(ctx, items) }()
	if err := underWay.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-answer; !errors.Is(err, core.ErrUnknownOutcome) {
		t.Fatalf("given up: %v", err)
	}
}

// An ack of several that is given up, and never applied, is none: a second one
// with effects has them, once, and the late one changes nothing.
func TestAnAckOfSeveralThatComesTooLate(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	items := bundled(t, q, 4)
	effect := "/effect/" + q.Name() + "/"
	late := faults.Late(coretest.Deletes("/outs/"))
	givenUp(t, items, late)
	for _, i := range items[:2] {
		if err := i.Ack(within(t), clientv3.OpPut(effect+i.Value, "v")); err != nil {
			t.Error(err)
		}
	}
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, i := range items[2:] {
		if !owns(t, i.IsOwner()) {
			t.Errorf("the late ack took item %s", i.Value)
		}
		if err := i.Nack(within(t), 0); err != nil {
			t.Error(err)
		}
	}
	if kvs := etcd.Dump(t, effect); len(kvs) != 2 {
		t.Errorf("effects: %v", kvs)
	}
	only(t, q, 2, items[2].Value, items[3].Value)
}

// One that was applied is told to be so by whatever is asked next.
func TestAnAckOfSeveralWhoseReplyWasGivenUp(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	items := bundled(t, q, 4)
	givenUp(t, items, faults.LoseReply(coretest.Deletes("/outs/"), coretest.Silently()))
	effect := "/effect/" + q.Name()
	if err := items[0].Ack(within(t), clientv3.OpPut(effect, "v")); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("to ack with an effect what was acked without: %v", err)
	}
	if err := queue.AckAll(within(t), items); err != nil {
		t.Errorf("to ack them again: %v", err)
	}
	if kvs := etcd.Dump(t, effect); len(kvs) != 0 {
		t.Errorf("the second ack wrote %v", kvs)
	}
	settled(t, items)
	only(t, q, 1)
}

// A claim of several that arrives after its session takes nothing.
func TestAClaimOfSeveralThatArrivesAfterItsSession(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	want := filled(t, q, "", 3)
	late := faults.Late(coretest.Puts("/outs/"), coretest.Always())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = q.DequeueBatch(ctx, 3)
	}()
	if err := late.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	cancel()
	<-done
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	if left := under(t, q.Name(), "out"); len(left) != 0 {
		t.Errorf("a session that is gone took %q", left)
	}
	only(t, queue.New[string](session(t), q.Name()), 1, want...)
}

// Somebody else takes one of the items first: the rest is claimed one by one.
func TestAClaimOfSeveralThatIsRefused(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	want := filled(t, q, "", 5)
	for _, lost := range []bool{false, true} {
		late := faults.Hold(coretest.Puts("/outs/"))
		if lost {
			faults.LoseRequest(coretest.Puts("/outs/"))
		}
		got := make(chan []*queue.Item[string], 1)
		go func() {
			items, err := q.DequeueBatch(within(t), 5)
			if err != nil {
				t.Error(err)
			}
			got <- items
		}()
		if err := late.Wait(within(t)); err != nil {
			t.Fatal(err)
		}
		other := take(t, queue.New[string](session(t), q.Name()))
		late.Release()
		items := <-got
		for _, i := range items {
			if i.ID == other.ID {
				t.Errorf("item %s was delivered twice", i.Value)
			}
		}
		if len(items) == 0 {
			t.Fatal("nothing was delivered")
		}
		for _, i := range append(items, other) {
			if err := i.Nack(within(t), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	var left []string
	for range want {
		i := take(t, q)
		left = append(left, i.Value)
		ack(t, i)
	}
	if slices.Sort(left); !slices.Equal(left, want) {
		t.Errorf("left: %q", left)
	}
}

// claimInDoubt takes n items in one call. The reply to the claim is lost, and its repetition
// is held.
func claimInDoubt(t *testing.T, faults *coretest.Faults, q *queue.Queue[string], n int) (again *coretest.Hold, got <-chan []*queue.Item[string]) {
	t.Helper()
	lost := faults.LoseReply(coretest.Puts("/outs/"))
	again = faults.Hold(coretest.Puts("/outs/"))
	answer := make(chan []*queue.Item[string], 1)
	go func() {
		items, err := q.DequeueBatch(within(t), n)
		if err != nil {
			t.Error(err)
		}
		answer <- items
	}()
	if err := again.Wait(within(t)); err != nil || lost.Fired() != 1 {
		t.Fatalf("%d replies lost: %v", lost.Fired(), err)
	}
	return again, answer
}

// A session's key is deleted by hand while a claim is in doubt that made a bundle: it
// stands beside the next key, and is found.
func TestAClaimOfSeveralInDoubtWhenTheKeyIsDeleted(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	want := filled(t, q, "", 4)
	again, got := claimInDoubt(t, faults, q, 4)
	here := under(t, q.Name(), "here/")
	if _, err := etcd.Client(t).Delete(within(t), keyspace.Prefix("default", "queue", q.Name())+here[0]); err != nil {
		t.Fatal(err)
	}
	again.Release()
	items := <-got
	if len(items) != len(want) {
		t.Fatalf("%d of %d items", len(items), len(want))
	}
	if err := queue.AckAll(within(t), items); err != nil {
		t.Error(err)
	}
	only(t, q, 1)
}

// A later delivery of an item to the same session has the same key, and is not taken
// for the one before.
func TestALaterDeliveryIsAnotherOne(t *testing.T) {
	s := session(t)
	q := queue.New[string](s, etcd.Prefix(t))
	items := bundled(t, q, 2)
	if _, err := etcd.Client(t).Delete(within(t), keyspace.Prefix("default", "queue", q.Name())+"here/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	other := queue.New[string](session(t), q.Name()) // takes the first one for dead
	until(t, func() bool {
		i, err := other.TryDequeue(within(t))
		if err == nil && i.Nack(within(t), 0) != nil {
			t.Error("not returned")
		}
		return len(under(t, q.Name(), "outs/")) == 0
	})
	put(t, q, "new") // the puller of the first session looks anew
	later := make(map[string]*queue.Item[string])
	for len(later) < 3 {
		i := take(t, q)
		later[i.Value] = i
	}
	for _, i := range items {
		if err := i.Ack(within(t), clientv3.OpPut("/effect/"+q.Name(), "v")); !errors.Is(err, queue.ErrStaleDelivery) {
			t.Errorf("the old delivery of %s: %v", i.Value, err)
		}
	}
	for _, i := range later {
		ack(t, i)
	}
	if n := len(etcd.Dump(t, "/effect/"+q.Name())); n != 0 {
		t.Errorf("%d effects of what was stale", n)
	}
}

// An ack that never arrived is not taken for done because a removal took the bundle.
func TestAnAckOfSeveralAcrossARemoval(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	items := bundled(t, q, 3)
	givenUp(t, items, faults.LoseRequest(coretest.Deletes("/outs/"), coretest.Silently()))
	if gone := must[queue.Removed](t)(queue.New[string](session(t), q.Name()).Destroy(within(t))); gone.Items != 3 {
		t.Errorf("destroyed: %+v", gone)
	}
	if err := queue.AckAll(within(t), items); !errors.Is(err, core.ErrUnknownOutcome) {
		t.Errorf("to ack them again: %v", err)
	}
}

// A key that no version wrote is put aside, and what stands beside it is returned.
func TestWhatIsNoBundle(t *testing.T) {
	s := session(t)
	q := queue.New[string](s, etcd.Prefix(t))
	bundled(t, q, 2)
	broken := keyspace.Prefix("default", "queue", q.Name()) + fmt.Sprintf("outs/%016x/2/broken", int64(s.Lease()))
	if _, err := etcd.Client(t).Put(within(t), broken, `{"v":1,"ids":["a"],"sizes":[1]}`+"\nx"); err != nil {
		t.Fatal(err)
	}
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	next := queue.New[string](session(t), q.Name())
	only(t, next, 2, "0", "1")
	until(t, func() bool { return depth(t, next.DeadLetters()) == 1 })
}

// What a dead session leaves of several, some of them on their own, is delivered anew.
func TestASessionEndsAfterASplit(t *testing.T) {
	s := session(t)
	q := queue.New[string](s, etcd.Prefix(t))
	ack(t, bundled(t, q, 3)[1])
	taken(t, q, 4)
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	heir := session(t)
	next := queue.New[string](heir, q.Name())
	var got []string
	for range 6 {
		i := take(t, next)
		got = append(got, i.Value)
		if again := must[*queue.Item[string]](t)(queue.New[string](lent(t, heir), q.Name()).Delivered(within(t), i.ID, i.Token())); again.Attempt != 2 {
			t.Errorf("attempt %d", again.Attempt)
		}
		ack(t, i)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"0", "0", "1", "2", "2", "3"}) {
		t.Errorf("came back: %q", got)
	}
	only(t, next, 2)
}

// A claim of several keys lost its reply, and one of them is gone before it is repeated:
// the other one was made all the same.
func TestAClaimOfSeveralKeysInDoubt(t *testing.T) {
	for _, gone := range []int{0, 1} {
		t.Run(fmt.Sprint("gone=", gone), func(t *testing.T) {
			s, faults := faulty(t)
			q := queue.New[string](s, etcd.Prefix(t))
			filled(t, q, "", 100)
			again, got := claimInDoubt(t, faults, q, 100)
			keys := under(t, q.Name(), "outs/")
			if len(keys) != 2 {
				t.Fatalf("bundles %q", keys)
			}
			if _, err := etcd.Client(t).Delete(within(t), keyspace.Prefix("default", "queue", q.Name())+keys[gone]); err != nil {
				t.Fatal(err)
			}
			again.Release()
			items := <-got
			if len(items) != 44 && len(items) != 56 {
				t.Errorf("%d items", len(items))
			}
			if err := queue.AckAll(within(t), items); err != nil {
				t.Error(err)
			}
			settled(t, items)
			only(t, q, 1)
		})
	}
}
