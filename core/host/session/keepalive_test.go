package session_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/host/session"
)

// A heart is a KeepAlive stream.
type heart struct {
	tb     testing.TB
	stream grpc.BidiStreamingClient[sessionv1.KeepAliveRequest, sessionv1.KeepAliveResponse]
	next   int64
}

func attach(tb testing.TB, c sessionv1.SessionServiceClient, first *sessionv1.KeepAliveRequest) *heart {
	tb.Helper()
	stream, err := c.KeepAlive(within(tb))
	if err != nil {
		tb.Fatal(err)
	}
	h := &heart{tb: tb, stream: stream, next: first.GetSequence() + 1}
	if err := stream.Send(first); err != nil {
		tb.Fatal(err)
	}
	return h
}

// send sends one more heartbeat, and returns its sequence.
func (h *heart) send() int64 {
	h.tb.Helper()
	seq := h.next
	h.next++
	if err := h.stream.Send(&sessionv1.KeepAliveRequest{Sequence: seq}); err != nil {
		h.tb.Fatal(err)
	}
	return seq
}

// answer waits for one answer, and returns for how long it says that the session is valid.
func (h *heart) answer(sequence int64) time.Duration {
	h.tb.Helper()
	r, err := h.stream.Recv()
	if err != nil {
		h.tb.Fatal(err)
	}
	if r.GetSequence() != sequence {
		h.tb.Fatalf("answered %d, want %d", r.GetSequence(), sequence)
	}
	return r.GetTtl().AsDuration()
}

// end waits for the end of the stream.
func (h *heart) end() error {
	h.tb.Helper()
	for {
		if _, err := h.stream.Recv(); err != nil {
			return err
		}
	}
}

func TestEachHeartbeatIsAnsweredInOrder(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	c := h.dial(t)
	ns := namespace(t)
	id := open(t, c, &sessionv1.OpenRequest{Namespace: ns}).GetSessionId()
	k := attach(t, c, &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 7})
	if ttl := k.answer(7); ttl != 15*time.Second {
		t.Errorf("the first answer promises %v", ttl)
	}
	for range 20 {
		k.send()
	}
	for seq := int64(8); seq < 28; seq++ {
		if ttl := k.answer(seq); ttl > 15*time.Second || ttl < 15*time.Second*3/4 {
			t.Errorf("answer %d promises %v", seq, ttl)
		}
	}
	if s, err := c.List(within(t), &sessionv1.ListRequest{Namespace: ns}); err != nil || len(s.GetSessions()) != 1 || !s.GetSessions()[0].GetAttached() {
		t.Errorf("listed %v, %v", s, err)
	}
	if err := k.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := k.end(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ended with %v", err)
	}
	h.lease(t, id, ns) // a stream that ends does not end its session
}

// A heartbeat renews the lease only if the last renewal is a quarter of the TTL old.
func TestHeartbeatsShareRenewals(t *testing.T) {
	t.Parallel()
	count := &renewals{}
	h := start(t, etcd.Client(t, grpc.WithStreamInterceptor(count.intercept)))
	c := h.dial(t)
	ns := namespace(t)
	id := open(t, c, &sessionv1.OpenRequest{Namespace: ns, Ttl: durationpb.New(time.Hour)}).GetSessionId()
	k := attach(t, c, &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 1})
	last := k.answer(1)
	for range 100 {
		ttl := k.answer(k.send())
		if ttl >= last {
			t.Errorf("an answer promises %v, after %v, without a renewal", ttl, last)
		}
		last = ttl
	}
	if n := count.n.Load(); n != 1 {
		t.Errorf("%d renewals", n)
	}
}

func TestASecondStreamTakesThePlaceOfTheFirst(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	c := h.dial(t)
	ns := namespace(t)
	for _, fast := range []bool{false, true} {
		opened := open(t, c, &sessionv1.OpenRequest{Namespace: ns, FastRelease: fast})
		if opened.GetFastRelease() != fast {
			t.Fatalf("fast release %v", opened.GetFastRelease())
		}
		id := opened.GetSessionId()
		first := attach(t, c, &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 1})
		first.answer(1)
		second := attach(t, h.dial(t), &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 2})
		second.answer(2)
		err := first.end()
		wantReason(t, err, "conflict")
		if status.Code(err) != codes.Aborted {
			t.Errorf("got %v", err)
		}
		second.answer(second.send())
	}
}

func TestKeepAliveRefuses(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	c := h.dial(t)
	ns := namespace(t)
	id := open(t, c, &sessionv1.OpenRequest{Namespace: ns}).GetSessionId()
	gone := open(t, c, &sessionv1.OpenRequest{Namespace: ns}).GetSessionId()
	if _, err := c.Close(within(t), &sessionv1.CloseRequest{SessionId: gone, Namespace: ns}); err != nil {
		t.Fatal(err)
	}
	first := &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 5}
	for name, test := range map[string]struct {
		requests []*sessionv1.KeepAliveRequest
		reason   string
	}{
		"no session":      {[]*sessionv1.KeepAliveRequest{{Sequence: 1}}, "invalid_session_id"},
		"no id":           {[]*sessionv1.KeepAliveRequest{{SessionId: "x"}}, "invalid_session_id"},
		"ended":           {[]*sessionv1.KeepAliveRequest{{SessionId: gone, Namespace: ns}}, "session_expired"},
		"namespace":       {[]*sessionv1.KeepAliveRequest{{SessionId: id}}, "invalid_namespace"},
		"another session": {[]*sessionv1.KeepAliveRequest{first, {SessionId: gone, Namespace: ns, Sequence: 6}}, "invalid_session_id"},
		"another ns":      {[]*sessionv1.KeepAliveRequest{first, {SessionId: id, Sequence: 6}}, "invalid_namespace"},
		"same sequence":   {[]*sessionv1.KeepAliveRequest{first, {Sequence: 5}}, "invalid_sequence"},
	} {
		stream, err := c.KeepAlive(within(t))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range test.requests {
			if err := stream.Send(r); err != nil {
				t.Fatal(err)
			}
		}
		k := &heart{tb: t, stream: stream}
		if err := k.end(); err != nil {
			t.Log(name, err)
			wantReason(t, err, test.reason)
		}
	}
}

func TestTheStreamEndsWithItsSession(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	c := h.dial(t)
	ns := namespace(t)
	id := open(t, c, &sessionv1.OpenRequest{Namespace: ns}).GetSessionId()
	k := attach(t, c, &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 1})
	k.answer(1)
	coretest.ExpireLease(t, etcd.Client(t), h.lease(t, id, ns))
	wantReason(t, k.end(), "session_expired")
}

// While etcd does not answer, heartbeats are answered with what is certain, and
// then not at all.
func TestAnswersNeverPromiseMoreThanEtcd(t *testing.T) {
	t.Parallel()
	link := etcd.Link(t)
	h := start(t, coretest.Dial(t, link.Endpoint()))
	c := h.dial(t)
	ns := namespace(t)
	id := open(t, c, &sessionv1.OpenRequest{Namespace: ns, Ttl: durationpb.New(5 * time.Second)}).GetSessionId()
	k := attach(t, c, &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 1})
	k.answer(1)
	valid := time.Now().Add(5 * time.Second) // the renewal was sent before this
	link.Blackhole(coretest.Both)
	for {
		now := time.Now()
		seq := k.send()
		r, err := k.stream.Recv()
		if err != nil {
			break // nothing is left to promise
		}
		if r.GetSequence() != seq {
			t.Fatalf("answered %d, want %d", r.GetSequence(), seq)
		}
		if until := now.Add(r.GetTtl().AsDuration()); until.After(valid) {
			t.Fatalf("an answer promises until %v, the last renewal holds until %v", until, valid)
		}
	}
	link.Heal()
}

func TestRenewIsNotForFastRelease(t *testing.T) {
	t.Parallel()
	h := start(t, etcd.Client(t))
	c := h.dial(t)
	ns := namespace(t)
	id := open(t, c, &sessionv1.OpenRequest{Namespace: ns, FastRelease: true}).GetSessionId()
	_, err := c.Renew(within(t), &sessionv1.RenewRequest{SessionId: id, Namespace: ns})
	wantReason(t, err, "conflict")
}

// The stream of a host that stops ends, and the session lives.
func TestTwoHostsRenewOneSession(t *testing.T) {
	t.Parallel()
	a, b := start(t, etcd.Client(t)), start(t, etcd.Client(t), func(c *session.Config) { c.Host = "b" })
	ns := namespace(t)
	for _, fast := range []bool{false, true} {
		if fast {
			a = start(t, etcd.Client(t))
		}
		id := open(t, a.dial(t), &sessionv1.OpenRequest{Namespace: ns, FastRelease: fast}).GetSessionId()
		first := attach(t, a.dial(t), &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 1})
		first.answer(1)
		a.stop()
		if err := first.end(); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the stream of a stopped host ended with %v", err)
		}
		second := attach(t, b.dial(t), &sessionv1.KeepAliveRequest{SessionId: id, Namespace: ns, Sequence: 2})
		second.answer(2)
		second.answer(second.send())
	}
}
