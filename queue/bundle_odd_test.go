package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/queue"
)

// An ack of some of several, whose split etcd refuses, takes none of the others.
func TestAnAckOfSomeOfSeveralThatIsRefused(t *testing.T) {
	for _, some := range []int{0, 1} {
		t.Run(fmt.Sprint("from=", some), func(t *testing.T) {
			s, faults := faulty(t)
			q := queue.New[string](s, etcd.Prefix(t))
			items := bundled(t, q, 4)
			busy := faults.LoseRequest(coretest.Deletes("/outs/"), coretest.Times(4), coretest.WithCode(codes.ResourceExhausted))
			part := items[some : some+3]
			if err := queue.AckAll(within(t), part); err == nil || errors.Is(err, core.ErrUnknownOutcome) {
				t.Errorf("AckAll: %v after %d refusals", err, busy.Fired())
			}
			if n := depth(t, q); n != 4 {
				t.Errorf("%d of 4 stand", n)
			}
			if err := queue.AckAll(within(t), part); err != nil {
				t.Error(err)
			}
			settled(t, part)
			ack(t, items[(some+3)%4])
			only(t, q, 1)
		})
	}
}

// Names that are those of places are names.
func TestAQueueThatIsNamedLikeAPlace(t *testing.T) {
	for _, q := range []*queue.Queue[string]{
		queue.New[string](session(t), "outs", queue.WithCapacity(3)),
		queue.New[string](session(t, core.WithNamespace("outs")), etcd.Prefix(t), queue.WithCapacity(3)),
	} {
		items := taken(t, q, 3)
		if n := depth(t, q); n != 3 {
			t.Errorf("%d of 3 items", n)
		}
		if _, err := q.Enqueue(within(t), "more"); !errors.Is(err, queue.ErrFull) {
			t.Errorf("beside 3 of 3 items: %v", err)
		}
		if err := queue.AckAll(within(t), items); err != nil {
			t.Error(err)
		}
	}
}

// How many come at once does not depend on how they are claimed.
func TestHowManyComeAtOnce(t *testing.T) {
	plain := session(t)
	for _, c := range []struct {
		s           *core.Session
		group       bool
		asks, least int
	}{
		{plain, false, 56, 56}, {plain, false, 111, 111}, {plain, false, 300, 112},
		{plain, true, 60, 56}, {plain, true, 100, 56},
		{lent(t, plain), false, 37, 37}, {lent(t, plain), false, 48, 37}, {lent(t, plain), false, 100, 37},
	} {
		q := queue.New[string](c.s, etcd.Prefix(t))
		for n := range c.asks {
			var opts []queue.PutOption
			if c.group {
				opts = append(opts, queue.Group(fmt.Sprint(n)))
			}
			put(t, q, fmt.Sprint(n), opts...)
		}
		if items := must[[]*queue.Item[string]](t)(q.DequeueBatch(within(t), c.asks)); len(items) < c.least {
			t.Errorf("of %d items %d came at once, not %d", c.asks, len(items), c.least)
		}
	}
}

// What a library's session took together is at a host what it is there.
func TestOneOfSeveralAtAHost(t *testing.T) {
	owner := session(t)
	q := queue.New[string](owner, etcd.Prefix(t))
	items := bundled(t, q, 3)
	faults := coretest.NewFaults()
	lender := core.NewLender(etcd.Client(t, faults.DialOptions()...))
	t.Cleanup(lender.Close)
	s := must[*core.Session](t)(lender.Session(core.Loan{Lease: owner.Lease(), TTL: owner.TTL(), Owner: "host", Namespace: owner.Namespace()}))
	host := queue.New[string](s, q.Name())
	lost := faults.LoseReply(coretest.Deletes("/outs/")) // of the split
	i := must[*queue.Item[string]](t)(host.Delivered(within(t), items[0].ID, items[0].Token()))
	if err := i.Extend(within(t), time.Minute); err != nil || lost.Fired() != 1 {
		t.Errorf("Extend: %v; %d replies lost", err, lost.Fired())
	}
	lost = faults.LoseReply(coretest.Deletes("/out/"))
	if err := i.Ack(within(t)); err != nil || lost.Fired() != 1 {
		t.Errorf("Ack: %v; %d replies lost", err, lost.Fired())
	}
	if err := queue.AckAll(within(t), items[1:]); err != nil {
		t.Errorf("the others: %v", err)
	}
	only(t, q, 1)
}

// Queues of one session with other options claim beside each other: what one of them is
// in doubt of may be the other's. (The request that is held for that ends after 5 s.)
func TestTwoConsumersOfOneSession(t *testing.T) {
	for _, several := range []bool{false, true} {
		t.Run(fmt.Sprint("several=", several), func(t *testing.T) {
			t.Parallel()
			s, faults := faulty(t)
			a := queue.New[string](s, etcd.Prefix(t), queue.WithVisibility(time.Minute))
			b := queue.New[string](s, a.Name(), queue.WithVisibility(2*time.Minute))
			filled(t, a, "", 2)
			faults.LoseRequest(coretest.Puts("/out"))
			again := faults.Hold(coretest.Puts("/out"))
			got := make(chan *queue.Item[string], 1)
			go func() {
				i, err := a.Dequeue(within(t))
				if err != nil {
					t.Error(err)
				}
				got <- i
			}()
			if err := again.Wait(within(t)); err != nil {
				t.Fatal(err)
			}
			theirs := []*queue.Item[string]{}
			if several {
				theirs = must[[]*queue.Item[string]](t)(b.DequeueBatch(within(t), 2))
				owns(t, theirs[0].IsOwner()) // each gets its own key
			} else {
				theirs = append(theirs, take(t, b), take(t, b))
			}
			again.Release()
			put(t, b, "next")
			if i := <-got; i.Value != "next" {
				t.Errorf("item %s was delivered twice", i.Value)
			}
			for _, i := range theirs {
				ack(t, i)
			}
		})
	}
}

// A claim in doubt is settled also if etcd refuses its repetition for a while: callers
// are told, and what it took is the next one's.
func TestAClaimInDoubtThatIsRefused(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint("items=", n), func(t *testing.T) {
			s, faults := faulty(t)
			q := queue.New[string](s, etcd.Prefix(t))
			want := filled(t, q, "", n)
			faults.LoseReply(coretest.Puts("/out"))
			busy := faults.LoseRequest(coretest.Puts("/out"), coretest.WithCode(codes.ResourceExhausted))
			var got []string
			for len(got) < n {
				items, err := q.DequeueBatch(within(t), n)
				if err != nil && busy.Fired() == 0 {
					t.Fatal(err)
				}
				for _, i := range items {
					got = append(got, i.Value)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %q", got)
			}
		})
	}
}

// An ack that was applied, and whose session ends before anybody knows, is not called
// stale.
func TestAnAckOfSeveralInDoubtWhenTheSessionEnds(t *testing.T) {
	for how, end := range map[string]func(*core.Session){
		"closes":  func(s *core.Session) { _ = s.Close() },
		"expires": func(s *core.Session) { coretest.ExpireLease(t, etcd.Client(t), s.Lease()) },
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s, faults := faulty(t)
			q := queue.New[string](s, etcd.Prefix(t))
			items := bundled(t, q, 3)
			lost := faults.LoseReply(coretest.Deletes("/outs/"), coretest.Silently())
			answer := make(chan error, 1)
			go func() { answer <- queue.AckAll(within(t), items) }()
			if err := lost.Wait(within(t)); err != nil {
				t.Fatal(err)
			}
			end(s)
			if err := <-answer; errors.Is(err, queue.ErrStaleDelivery) || !errors.Is(err, core.ErrUnknownOutcome) {
				t.Errorf("AckAll: %v", err)
			}
			for _, i := range items {
				if err := i.Ack(context.Background()); errors.Is(err, queue.ErrStaleDelivery) || !errors.Is(err, core.ErrUnknownOutcome) {
					t.Errorf("Ack: %v", err)
				}
			}
		})
	}
}

// Keys that a hand wrote are in nobody's way.
func TestWhatAHandPutAmongSeveral(t *testing.T) {
	s := session(t)
	q := queue.New[string](s, etcd.Prefix(t))
	root := keyspace.Prefix("default", "queue", q.Name())
	by := func(key, value string) {
		if _, err := etcd.Client(t).Put(within(t), root+key, value); err != nil {
			t.Fatal(err)
		}
	}
	rec := `{"v":1,"at":1,"codec":"json","ord":5}` + "\n" + `"hand"`
	filled(t, q, "", 3)
	by("in/front/7f/0000000000000001/", rec) // an item without an id
	for n := 0; n < 4; {
		n += len(must[[]*queue.Item[string]](t)(q.DequeueBatch(within(t), 4)))
	}
	by(fmt.Sprintf("outs/%016x/2/twice", int64(s.Lease())), fmt.Sprintf(`{"v":1,"ids":["a","a"],"sizes":[%d,%d]}`, len(rec), len(rec))+"\n"+rec+rec)
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	next := queue.New[string](session(t), q.Name())
	var got []string
	for range 4 {
		i := take(t, next)
		got = append(got, i.Value)
		ack(t, i)
	}
	if slices.Sort(got); !slices.Equal(got, []string{"0", "1", "2", "hand"}) {
		t.Errorf("came back: %q", got)
	}
	until(t, func() bool { return depth(t, next.DeadLetters()) == 1 })
	if left := under(t, q.Name(), "out"); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}
