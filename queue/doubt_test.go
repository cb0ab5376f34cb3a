package queue_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/queue"
)

// doubtful lets a verb on a delivery be applied, and gives it up before its reply comes.
func doubtful(t *testing.T, faults *coretest.Faults, verb func(context.Context) error) {
	t.Helper()
	lost := faults.LoseReply(coretest.Deletes("/out/"), coretest.Silently())
	ctx, cancel := context.WithCancel(within(t))
	answer := make(chan error, 1)
	go func() { answer <- verb(ctx) }()
	if err := lost.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-answer; !errors.Is(err, core.ErrUnknownOutcome) {
		t.Fatalf("given up: %v", err)
	}
}

// isStale fails unless an error says that nothing was written.
func isStale(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, queue.ErrStaleDelivery) || errors.Is(err, core.ErrUnknownOutcome) {
		t.Errorf("%s: %v", what, err)
	}
}

// What one verb has done is not what another one is asked for.
func TestAVerbAfterAnotherOneInDoubt(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	effect := "/effect/" + q.Name()
	put(t, q, "nacked")
	i := take(t, q)
	doubtful(t, faults, func(ctx context.Context) error { return i.Nack(ctx, 0) })
	isStale(t, "Ack after a Nack", i.Ack(within(t), clientv3.OpPut(effect, "v")))
	only(t, q, 2, "nacked")
	put(t, q, "acked")
	i = take(t, q)
	doubtful(t, faults, func(ctx context.Context) error { return i.Ack(ctx) })
	isStale(t, "Nack after an Ack", i.Nack(within(t), 0))
	isStale(t, "an Ack with effects after one without", i.Ack(within(t), clientv3.OpPut(effect, "v")))
	if err := i.Ack(within(t)); err != nil {
		t.Errorf("Ack after an Ack that was applied: %v", err)
	}
	if n := len(etcd.Dump(t, effect)); n != 0 {
		t.Errorf("%d effects", n)
	}
	only(t, q, 1)
}

// When the session ends, a verb that was sent is unknown, and another one stale.
func TestTheSessionEndsAfterAVerbInDoubt(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	put(t, q, "a")
	i := take(t, q)
	doubtful(t, faults, func(ctx context.Context) error { return i.Nack(ctx, 0) })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	isStale(t, "Ack", i.Ack(within(t)))
	isStale(t, "Extend", i.Extend(within(t), time.Minute))
	if err := i.Nack(within(t), 0); !errors.Is(err, core.ErrUnknownOutcome) || !errors.Is(err, core.ErrSessionClosed) {
		t.Errorf("Nack: %v", err)
	}
}

// The end of a delivery's time finds out what became of an ack, and what is asked then is
// told so.
func TestTimeIsOverAfterAnAckInDoubt(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t), queue.WithVisibility(300*time.Millisecond))
	put(t, q, "a")
	i := take(t, q)
	doubtful(t, faults, func(ctx context.Context) error { return i.Ack(ctx) })
	<-i.Context().Done()
	err := i.Ack(within(t))
	for errors.Is(err, core.ErrUnknownOutcome) { // it is being found out
		err = i.Ack(within(t))
	}
	if err != nil {
		t.Errorf("Ack: %v", err)
	}
	put(t, q, "b")
	lost := faults.LoseReply(coretest.Deletes("/out/")) // of its return
	i = take(t, q)
	if err := lost.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	j := take(t, q)
	isStale(t, "Ack of what was returned", i.Ack(within(t)))
	ack(t, j)
}

// What was claimed for somebody who left goes back, also if etcd refuses that at first.
func TestWhatNobodyTakesIsReturned(t *testing.T) {
	for _, n := range []int{1, 3} {
		t.Run(fmt.Sprint("items=", n), func(t *testing.T) {
			t.Parallel()
			s, faults := faulty(t)
			q := queue.New[string](s, etcd.Prefix(t), queue.WithVisibility(500*time.Millisecond))
			want := filled(t, q, "", n)
			held := faults.Hold(coretest.Puts("/out"))
			ctx, cancel := context.WithCancel(within(t))
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				_, _ = q.DequeueBatch(ctx, n)
			}()
			if err := held.Wait(within(t)); err != nil {
				t.Fatal(err)
			}
			cancel()
			<-gone
			busy := faults.LoseRequest(coretest.Deletes("/out"), coretest.Times(n), coretest.WithCode(codes.ResourceExhausted))
			held.Release()
			if err := busy.Wait(within(t)); err != nil {
				t.Fatal(err)
			}
			next := queue.New[string](session(t), q.Name())
			var got []string
			for range want {
				i := take(t, next)
				got = append(got, i.Value)
				ack(t, i)
			}
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("came back: %q", got)
			}
		})
	}
}

// A claim in doubt waits for the end of a pause; who does not want to wait is told that
// there is nothing.
func TestATryBesideAClaimInDoubtOfAPausedQueue(t *testing.T) {
	t.Parallel()
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	want := filled(t, q, "", 2)
	lost := faults.LoseRequest(coretest.Puts("/out"), coretest.Silently())
	ctx, cancel := context.WithCancel(within(t))
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = q.Dequeue(ctx)
	}()
	if err := lost.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	operator := queue.New[string](session(t), q.Name())
	if err := operator.Pause(within(t)); err != nil {
		t.Fatal(err)
	}
	cancel()
	<-gone
	if i, err := q.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("TryDequeue: %v, %v", i, err)
	}
	if err := operator.Resume(within(t)); err != nil {
		t.Fatal(err)
	}
	wants(t, q, want...)
}

// What etcd says of the second try of an ack says nothing of the first.
func TestAnAckInDoubtThatIsRefused(t *testing.T) {
	s, faults := faulty(t)
	q := queue.New[string](s, etcd.Prefix(t))
	put(t, q, "a")
	i := take(t, q)
	lost := faults.LoseReply(coretest.Deletes("/out/"))
	busy := faults.LoseRequest(coretest.Deletes("/out/"), coretest.WithCode(codes.ResourceExhausted))
	if err := i.Ack(within(t)); !errors.Is(err, core.ErrUnknownOutcome) || lost.Fired()+busy.Fired() != 2 {
		t.Errorf("Ack: %v", err)
	}
	ack(t, i)
	only(t, q, 1)
}
