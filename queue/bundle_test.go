package queue_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/queue"
)

// bundled puts n items and takes them in one call, under one key.
func bundled(t *testing.T, q *queue.Queue[string], n int) []*queue.Item[string] {
	t.Helper()
	items := taken(t, q, n)
	if keys := under(t, q.Name(), "out"); len(keys) != 1 || !strings.Contains(keys[0], fmt.Sprintf("/%d/", n)) {
		t.Fatalf("%d items that were taken together stand under %q", n, keys)
	}
	return items
}

// owns asks etcd whether a comparison holds.
func owns(t *testing.T, guard clientv3.Cmp) bool {
	t.Helper()
	return must[*clientv3.TxnResponse](t)(etcd.Client(t).Txn(within(t)).If(guard).Commit()).Succeeded
}

// only fails unless these values wait, in this order, with these attempts.
func only(t *testing.T, q *queue.Queue[string], attempt int, want ...string) {
	t.Helper()
	for _, v := range want {
		i := take(t, q)
		if i.Value != v || i.Attempt != attempt {
			t.Errorf("got %q, attempt %d, want %q, %d", i.Value, i.Attempt, v, attempt)
		}
		ack(t, i)
	}
	if i, err := q.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("after them: %v, %v", i, err)
	}
}

func TestItemsTakenTogetherShareAKey(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	items := bundled(t, q, 20)
	if s := must[queue.Stats](t)(q.Stats(within(t))); s.InFlight != 20 || s.Ready != 0 || depth(t, q) != 20 {
		t.Errorf("stats %+v, depth %d", s, depth(t, q))
	}
	tokens := make(map[core.Token]bool)
	for _, i := range items {
		tokens[i.Token()] = true
	}
	if len(tokens) != 20 {
		t.Errorf("%d tokens of 20 deliveries", len(tokens))
	}
	if err := queue.AckAll(within(t), items); err != nil {
		t.Fatal(err)
	}
	settled(t, items)
	if left := under(t, q.Name(), "out"); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
	only(t, q, 1)
}

// Each item of several may end otherwise than the rest, which stand as they did.
func TestOneOfSeveralIsSettledByItself(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	items := bundled(t, q, 8)
	effect := "/effect/" + q.Name()
	token := items[0].Token()
	if err := items[1].Ack(within(t), clientv3.OpPut(effect, "1")); err != nil {
		t.Error(err)
	}
	if err := items[2].Nack(within(t), 0); err != nil {
		t.Error(err)
	}
	if err := items[3].Reject(within(t), "no"); err != nil {
		t.Error(err)
	}
	if err := items[4].Extend(within(t), time.Minute); err != nil {
		t.Error(err)
	}
	for n, i := range items {
		if stands := n == 0 || n > 3; owns(t, i.IsOwner()) != stands || (i.Context().Err() == nil) != stands {
			t.Errorf("item %d: stands %t, %v", n, owns(t, i.IsOwner()), i.Context().Err())
		}
	}
	if items[0].Token() != token {
		t.Errorf("token %d became %d", token, items[0].Token())
	}
	rest := append(slices.Clone(items[:1]), items[4:]...)
	if err := queue.AckAll(within(t), rest); err != nil {
		t.Error(err)
	}
	settled(t, rest)
	if kvs := etcd.Dump(t, effect); len(kvs) != 1 || kvs[0].Version != 1 {
		t.Errorf("effects: %v", kvs)
	}
	only(t, q, 2, "2")
	if n := depth(t, q.DeadLetters()); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

// A guard that was handed out holds whatever becomes of the others.
func TestTheGuardOfOneOfSeveral(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	items := bundled(t, q, 3)
	guard := items[0].IsOwner()
	if err := queue.AckAll(within(t), items[1:]); err != nil {
		t.Fatal(err)
	}
	if !owns(t, guard) {
		t.Error("an ack of the others ended it")
	}
	ack(t, items[0])
	if owns(t, guard) {
		t.Error("it holds after the ack")
	}
}

// The two items twice are not the two items.
func TestAckAllOfTheSameItemTwice(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t), queue.WithVisibility(time.Minute))
	items := bundled(t, q, 2)
	err := queue.AckAll(within(t), []*queue.Item[string]{items[0], items[0]})
	if err != nil && !errors.Is(err, queue.ErrStaleDelivery) {
		t.Error(err)
	}
	if !owns(t, items[1].IsOwner()) {
		t.Fatal("the other one was acked")
	}
	ack(t, items[1])
	only(t, q, 1)
}

func TestVisibilityOfSeveral(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t), queue.WithVisibility(500*time.Millisecond))
	items := bundled(t, q, 6)
	if err := items[5].Extend(within(t), time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, i := range items[:5] {
		<-i.Context().Done()
	}
	var got []string
	for range 5 {
		i := take(t, q)
		got = append(got, i.Value)
		if i.Attempt != 2 {
			t.Errorf("%s: attempt %d", i.Value, i.Attempt)
		}
		ack(t, i)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("came back: %q", got)
	}
	ack(t, items[5])
	only(t, q, 1)
}

// What was taken together counts as what it is.
func TestABoundCountsSeveralUnderOneKey(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t), queue.WithCapacity(10))
	items := bundled(t, q, 10)
	if _, err := q.Enqueue(within(t), "more"); !errors.Is(err, queue.ErrFull) {
		t.Fatalf("beside 10 of 10 items: %v", err)
	}
	waits := make(chan error, 1)
	go func() {
		_, err := q.Enqueue(within(t), "more", queue.WaitForRoom())
		waits <- err
	}()
	if err := queue.AckAll(within(t), items); err != nil {
		t.Fatal(err)
	}
	if err := <-waits; err != nil {
		t.Errorf("for room: %v", err)
	}
	only(t, q, 1, "more")
}

func TestRemovalOfSeveralUnderOneKey(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	items := bundled(t, q, 7)
	if err := q.Remove(within(t)); !errors.Is(err, queue.ErrInUse) || !strings.Contains(err.Error(), "7 items") {
		t.Errorf("Remove: %v", err)
	}
	if gone := must[queue.Removed](t)(q.Destroy(within(t))); gone.Items != 7 {
		t.Errorf("destroyed: %+v", gone)
	}
	if err := queue.AckAll(within(t), items); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("AckAll after it: %v", err)
	}
	put(t, q, "next")
	only(t, q, 1, "next")
}

// lent is the session as a host serves it.
func lent(t *testing.T, s *core.Session) *core.Session {
	t.Helper()
	lender := core.NewLender(etcd.Client(t))
	t.Cleanup(lender.Close)
	return must[*core.Session](t)(lender.Session(core.Loan{Lease: s.Lease(), TTL: s.TTL(), Owner: "host", Namespace: s.Namespace()}))
}

// What a process of the session took with others is found by another one.
func TestOneOfSeveralIsFoundElsewhere(t *testing.T) {
	owner := session(t)
	q := queue.New[string](owner, etcd.Prefix(t))
	items := bundled(t, q, 3)
	another := queue.New[string](session(t), q.Name())
	if i, err := another.Delivered(within(t), items[0].ID, items[0].Token()); !errors.Is(err, queue.ErrStaleDelivery) {
		t.Errorf("of another session: %v, %v", i, err)
	}
	if i := must[*queue.Item[string]](t)(q.Delivered(within(t), items[0].ID, items[0].Token())); i.Value != "0" {
		t.Errorf("got %q", i.Value)
	}
	s, token := lent(t, owner), items[1].Token()
	i := must[*queue.Item[string]](t)(queue.New[string](s, q.Name()).Delivered(within(t), items[1].ID, token))
	if i.Token() != token || i.Value != "1" || !owns(t, i.IsOwner()) {
		t.Errorf("got %q with token %d, want %d", i.Value, i.Token(), token)
	}
	ack(t, i)
	if err := items[2].Nack(within(t), 0); err != nil {
		t.Error(err)
	}
	next := take(t, q) // which is a delivery like any other
	again := must[*queue.Item[string]](t)(queue.New[string](s, q.Name()).Delivered(within(t), next.ID, next.Token()))
	if again.Value != "2" || again.Attempt != 2 {
		t.Errorf("got %q, attempt %d", again.Value, again.Attempt)
	}
	if err := queue.AckAll(within(t), []*queue.Item[string]{items[0], next}); err != nil {
		t.Errorf("the others: %v", err)
	}
	only(t, q, 1)
}
