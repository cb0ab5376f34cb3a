package queue_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/queue"
)

// soaking reports whether the long variants shall run.
func soaking() bool { return os.Getenv("CONCLAVE_SOAK") == "1" }

// faulty is a session whose requests can be made to fail.
func faulty(t *testing.T, opts ...core.SessionOption) (*core.Session, *coretest.Faults) {
	t.Helper()
	faults := coretest.NewFaults()
	s, err := core.NewSession(within(t), etcd.Client(t, faults.DialOptions()...), opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		faults.Clear()
		_ = s.Close()
	})
	return s, faults
}

// until waits for a state that no event tells of.
func until(t *testing.T, is func() bool) {
	t.Helper()
	ctx, tick := within(t), time.NewTicker(5*time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("it never came to that")
		}
	}
}

// under returns the keys of a queue below a part of it.
func under(t *testing.T, name, part string) []string {
	t.Helper()
	var keys []string
	prefix := keyspace.Prefix("default", "queue", name)
	for _, kv := range etcd.Dump(t, prefix+part) {
		keys = append(keys, strings.TrimPrefix(string(kv.Key), prefix))
	}
	return keys
}

func TestAnEnqueueWhoseReplyWasLost(t *testing.T) {
	s, faults := faulty(t)
	name := etcd.Prefix(t)
	q := queue.New[string](s, name)
	put(t, q, "first") // what it needs to know is known
	lost := faults.LoseReply(coretest.Puts("/in/lane/"))
	if _, err := q.Enqueue(within(t), "unknown"); !errors.Is(err, core.ErrUnknownOutcome) {
		t.Errorf("without a dedup id: %v", err)
	}
	lostToo := faults.LoseReply(coretest.Puts("/dedup/"))
	id := put(t, q, "once", queue.DedupID("x"))
	if again := put(t, q, "once", queue.DedupID("x")); again != id {
		t.Errorf("repeated: ID %s, want %s", again, id)
	}
	if lost.Fired() != 1 || lostToo.Fired() != 1 {
		t.Fatalf("%d and %d replies were lost", lost.Fired(), lostToo.Fired())
	}
	wants(t, q, "first", "unknown", "once")
	if n := depth(t, q); n != 0 {
		t.Errorf("%d items are left", n)
	}
}

func TestAClaimWhoseReplyWasLost(t *testing.T) {
	s, faults := faulty(t)
	name := etcd.Prefix(t)
	q := queue.New[string](s, name)
	put(t, q, "a")
	put(t, q, "b")
	lost := faults.LoseReply(coretest.Puts("/out"))
	a := take(t, q)
	if lost.Fired() != 1 || a.Value != "a" || a.Attempt != 1 {
		t.Fatalf("%d replies lost, got %q, attempt %d", lost.Fired(), a.Value, a.Attempt)
	}
	ack(t, a)
	wants(t, q, "b")
	if left := under(t, name, "out"); len(left) != 0 {
		t.Errorf("deliveries of nobody: %q", left)
	}
}

func TestAClaimWhoseRequestWasLost(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	put(t, q, "a")
	lost := faults.LoseRequest(coretest.Puts("/out"))
	wants(t, q, "a")
	if lost.Fired() != 1 {
		t.Errorf("%d requests lost", lost.Fired())
	}
}

func TestAnAckWhoseReplyWasLost(t *testing.T) {
	s, faults := faulty(t)
	name := etcd.Prefix(t)
	q := queue.New[string](s, name)
	put(t, q, "a")
	i := take(t, q)
	lost := faults.LoseReply(coretest.Puts("/effect/"))
	if err := i.Ack(within(t), clientv3.OpPut("/effect/"+name, "v")); err != nil {
		t.Errorf("Ack: %v", err)
	}
	if kvs := etcd.Dump(t, "/effect/"+name); lost.Fired() != 1 || len(kvs) != 1 || kvs[0].Version != 1 {
		t.Errorf("%d replies lost, effects %v", lost.Fired(), kvs)
	}
}

func TestAnAckThatArrivesAfterTheNextDelivery(t *testing.T) {
	s, faults := faulty(t)
	name := etcd.Prefix(t)
	effect := "/effect/" + name
	q := queue.New[string](s, name)
	put(t, q, "a")
	i := take(t, q)
	late := faults.Late(coretest.Puts("/effect/"))
	faults.LoseRequest(coretest.Puts("/effect/"), coretest.Always()) // no repeated ack settles it
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error, 1)
	go func() { answer <- i.Ack(ctx, clientv3.OpPut(effect, "late")) }()
	if err := late.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-answer; !errors.Is(err, core.ErrUnknownOutcome) {
		t.Errorf("Ack: %v", err)
	}
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	other := take(t, queue.New[string](session(t), name))
	if other.Attempt != 2 {
		t.Errorf("attempt %d", other.Attempt)
	}
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	if kvs := etcd.Dump(t, effect); len(kvs) != 0 {
		t.Fatalf("a late ack wrote %v", kvs)
	}
	if err := other.Ack(within(t), clientv3.OpPut(effect, "once")); err != nil {
		t.Error(err)
	}
}

func TestAClaimThatArrivesAfterItsSession(t *testing.T) {
	s, faults := faulty(t)
	name := etcd.Prefix(t)
	q := queue.New[string](s, name)
	put(t, q, "a")
	late := faults.Late(coretest.Puts("/out"), coretest.Always())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = q.Dequeue(ctx)
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
	if left := under(t, name, "out"); len(left) != 0 {
		t.Errorf("a session that is gone took %q", left)
	}
	wants(t, queue.New[string](session(t), name), "a")
}

func TestASessionEndsWhileItHoldsItems(t *testing.T) {
	s, name := session(t), etcd.Prefix(t)
	q := queue.New[string](s, name)
	for n := range 5 {
		put(t, q, fmt.Sprint(n))
	}
	held := must[[]*queue.Item[string]](t)(q.DequeueBatch(within(t), 3))
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	next := queue.New[string](session(t), name)
	attempts := make(map[string]int)
	for range 5 {
		i := take(t, next)
		// What was not delivered may come before the dead session is noticed.
		attempts[i.Value] = i.Attempt
		ack(t, i)
	}
	if want := map[string]int{"0": 2, "1": 2, "2": 2, "3": 1, "4": 1}; !maps.Equal(attempts, want) {
		t.Errorf("attempts %v, want %v", attempts, want)
	}
	for _, i := range held {
		if err := i.Ack(within(t)); !errors.Is(err, queue.ErrStaleDelivery) && !errors.Is(err, core.ErrUnknownOutcome) {
			t.Errorf("Ack after the session: %v", err)
		}
	}
	if n := depth(t, next); n != 0 {
		t.Errorf("%d items are left", n)
	}
}

func TestADeliveryDeletedByHand(t *testing.T) {
	name := etcd.Prefix(t)
	q := queue.New[string](session(t), name)
	put(t, q, "a")
	i := take(t, q)
	prefix := keyspace.Prefix("default", "queue", name)
	if _, err := etcd.Client(t).Delete(within(t), prefix+"out/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	if err := i.Ack(within(t), clientv3.OpPut("/effect/"+name, "v")); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("Ack: %v", err)
	}
	if n := len(etcd.Dump(t, "/effect/"+name)); n != 0 {
		t.Errorf("%d effects", n)
	}
}

func TestAKeyThatIsNoItem(t *testing.T) {
	name := etcd.Prefix(t)
	q := queue.New[string](session(t), name)
	put(t, q, "a")
	if _, err := etcd.Client(t).Put(within(t), keyspace.Prefix("default", "queue", name)+"in/lane/7f/000000000001/0", "garbage"); err != nil {
		t.Fatal(err)
	}
	wants(t, q, "a")
	if _, err := q.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("TryDequeue: %v", err)
	}
	if n := depth(t, q.DeadLetters()); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

func TestAnIdleConsumerIsCutOff(t *testing.T) {
	link := etcd.Link(t)
	s, err := core.NewSession(within(t), coretest.Dial(t, link.Endpoint()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	name := etcd.Prefix(t)
	q, producer := queue.New[string](s, name), queue.New[string](session(t), name)
	got := make(chan *queue.Item[string], 1)
	go func() {
		i, err := q.Dequeue(within(t))
		if err != nil {
			t.Error(err)
		}
		got <- i
	}()
	until(t, func() bool { return len(under(t, name, "idle/")) > 0 })
	link.Cut()
	put(t, producer, "a")
	link.Heal()
	if i := <-got; i != nil {
		ack(t, i)
	}
}

func TestTheSessionExpiresWhileWaiting(t *testing.T) {
	s := session(t)
	q := queue.New[string](s, etcd.Prefix(t))
	answer := make(chan error, 1)
	go func() {
		_, err := q.Dequeue(within(t))
		answer <- err
	}()
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	if err := <-answer; !errors.Is(err, core.ErrSessionExpired) {
		t.Errorf("Dequeue: %v", err)
	}
	if _, err := q.Dequeue(within(t)); !errors.Is(err, core.ErrSessionExpired) {
		t.Errorf("Dequeue on an expired session: %v", err)
	}
}

func TestAPutWakesOneConsumer(t *testing.T) {
	name := etcd.Prefix(t)
	const consumers = 5
	got := make(chan *queue.Item[string], consumers)
	for range consumers {
		q := queue.New[string](session(t), name)
		go func() {
			i, err := q.Dequeue(within(t))
			if err != nil {
				t.Error(err)
			}
			got <- i
		}()
	}
	until(t, func() bool { return len(under(t, name, "idle/")) == consumers })
	producer := queue.New[string](session(t), name)
	for n := range consumers {
		put(t, producer, fmt.Sprint(n))
		if i := <-got; i != nil {
			ack(t, i)
		}
	}
	if left := under(t, name, "idle/"); len(left) != 0 {
		t.Errorf("in line: %q", left)
	}
}

func TestVisibilityOfServedSessions(t *testing.T) {
	client := etcd.Client(t)
	lender := core.NewLender(client)
	t.Cleanup(lender.Close)
	name := etcd.Prefix(t)
	served := func(caller *core.Session) *queue.Queue[string] {
		s, err := lender.Session(core.Loan{Lease: caller.Lease(), TTL: caller.TTL(), Owner: caller.Owner(), Namespace: caller.Namespace()})
		if err != nil {
			t.Fatal(err)
		}
		return queue.New[string](s, name, queue.WithVisibility(300*time.Millisecond))
	}
	one, two := session(t), session(t)
	put(t, served(one), "a")
	first := take(t, served(one))
	again := must[*queue.Item[string]](t)(served(one).Delivered(within(t), first.ID, first.Token()))
	if again.Value != "a" || again.Token() != first.Token() {
		t.Errorf("Delivered: %+v", again)
	}
	if _, err := served(two).Delivered(within(t), first.ID, first.Token()); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("to another session: %v", err)
	}
	second := take(t, served(two)) // when the first one's time is over
	if second.Attempt != 2 {
		t.Errorf("attempt %d", second.Attempt)
	}
	if err := first.Ack(within(t)); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("Ack of the first delivery: %v", err)
	}
	if err := second.Extend(within(t), time.Minute); err != nil {
		t.Error(err)
	}
	resumed := must[*queue.Item[string]](t)(served(two).Delivered(within(t), second.ID, second.Token()))
	if err := resumed.Ack(within(t)); err != nil {
		t.Error(err)
	}
	if err := second.Ack(within(t)); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("second Ack: %v", err)
	}
	if left := under(t, name, "until/"+fmt.Sprintf("%016x", uint64(two.Lease()))); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
}

// root is the beginning of a queue's keys.
func root(name string) string { return keyspace.Prefix("default", "queue", name) }
