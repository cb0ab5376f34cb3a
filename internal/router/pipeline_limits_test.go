package router_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pipelinev1 "github.com/conclavehq/conclave/api/conclave/pipeline/v1"
	"github.com/conclavehq/conclave/internal/reason"
	"github.com/conclavehq/conclave/internal/router"
)

// A caller's pipelines take so many calls, and more only of those that the others
// wait for. Those of others are not affected.
func TestPipelineLimitsCallsUnderWay(t *testing.T) {
	const most = 10_000
	f := newPiped(t, router.Config{Authorizer: asks{}}, &echo{})
	ann := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer ann")
	w, second := f.wire(ann, t), f.wire(ann, t)
	for i := uint64(0); i < most; i += 100 {
		var calls []*pipelinev1.Call
		for k := range uint64(100) {
			calls = append(calls, to(t, i+k, "Silent", ""))
		}
		w.send(calls...)
	}
	for _, one := range []*wire{w, second} {
		one.send(to(t, most, "Silent", ""))
		want(t, one.refusal(most), codes.ResourceExhausted, "limit_calls")
		one.send(to(t, most, "Settle", "a release"))
		if a := one.next(); a.GetId() != most || text(t, a) != "a release" {
			t.Fatalf("got %v", a)
		}
	}
	for _, who := range []string{"bob", ""} { // "" is known by the connection
		other := f.wire(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+who), t)
		other.send(to(t, 1, "Read", "another's"))
		if a := other.next(); text(t, a) != "another's" {
			t.Errorf("%q: got %v", who, a)
		}
	}
	var ids []uint64
	for i := range uint64(most) {
		ids = append(ids, i)
	}
	w.cancel(ids...)
	for range most {
		if err := errorOf(t, w.next()); status.Code(err) != codes.Canceled {
			t.Fatal(err)
		}
	}
	for _, one := range []*wire{w, second} {
		one.send(to(t, 1, "Do", "room"))
		if a := one.next(); text(t, a) != "room" {
			t.Errorf("got %v", a)
		}
	}
}

// heldAnswers begins calls that are all answered, with so many bytes, at the same moment,
// while nobody reads.
func heldAnswers(t *testing.T, all uint64, bytes int) (w *wire, answered func() bool, gone <-chan struct{}) {
	t.Helper()
	var entered, left atomic.Int64
	release, ended := make(chan struct{}), make(chan struct{})
	f := newPiped(t, router.Config{}, &echo{unary: func(ctx context.Context, method string, in message) (message, error) {
		if method == "Silent" {
			<-ctx.Done()
			close(ended)
			return in, ctx.Err()
		}
		if entered.Add(1) == int64(all) {
			close(release)
		}
		select {
		case <-release:
		case <-ctx.Done():
		}
		left.Add(1)
		return in.with(fieldPadding, strings.Repeat("x", bytes)), nil
	}})
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	w = f.wire(ctx, t, grpc.MaxCallRecvMsgSize(64<<20))
	w.send(to(t, all, "Silent", ""))
	for i := range all {
		w.send(to(t, i, "Do", ""))
	}
	return w, func() bool { return left.Load() == int64(all) && router.InFlight(f.Router) <= 2 }, ended
}

// What the host keeps for who does not take answers is bounded, also for calls that
// had begun: a large answer has to be taken at once.
func TestPipelineRefusesToKeepLargeAnswers(t *testing.T) {
	const all = 64
	w, answered, _ := heldAnswers(t, all, 1<<20)
	until(t, answered)
	refused := 0
	for range all {
		if err := errorOf(t, w.next()); err != nil {
			want(t, err, codes.ResourceExhausted, "limit_unsent")
			refused++
		}
	}
	if refused < all/2 || refused == all {
		t.Errorf("%d answers of %d were refused", refused, all)
	}
	w.cancel(all)
	want(t, w.refusal(all), codes.Canceled, "canceled")
}

// Who lets many small answers wait loses his stream and its calls.
func TestPipelineEndsForWhoTakesNothing(t *testing.T) {
	w, answered, gone := heldAnswers(t, 3_000, 10_000)
	until(t, answered)
	<-gone // its answers are given up while nobody reads
	want(t, w.end(), codes.ResourceExhausted, "limit_unsent")
}

// A message of answers is one that gRPC's clients accept by default, and what is too
// long for that is said to be.
func TestPipelineLimitsAnswers(t *testing.T) {
	const most = 4<<20 - 64<<10
	f := newPiped(t, router.Config{}, &echo{unary: func(ctx context.Context, method string, in message) (message, error) {
		switch in.text() {
		case "fits":
			return in.with(fieldPadding, strings.Repeat("x", most-20)), nil
		case "long":
			return in.with(fieldPadding, strings.Repeat("x", most)), nil
		case "metadata":
			return in, grpc.SetTrailer(ctx, metadata.Pairs("x-key", strings.Repeat("x", 70_000)))
		}
		return in, reason.Errorf(codes.Aborted, "locked", "%s", strings.Repeat("ä", 70_000))
	}})
	w := f.wire(t.Context(), t)
	w.send(to(t, 1, "Do", "fits"))
	if err := w.refusal(1); err != nil {
		t.Errorf("an answer of the largest size: %v", err)
	}
	w.send(to(t, 2, "Do", "long"))
	want(t, w.refusal(2), codes.ResourceExhausted, "limit_message")
	w.send(to(t, 3, "Do", "metadata"))
	want(t, w.refusal(3), codes.ResourceExhausted, "limit_message")
	w.send(to(t, 4, "Do", "error"))
	err := w.refusal(4)
	if text := status.Convert(err).Message(); status.Code(err) != codes.Aborted || !strings.HasPrefix(text, "locked: ää") || len(text) > 64<<10 {
		t.Errorf("a long error: got %v with %d bytes", status.Code(err), len(text))
	}
	if reason.Of(err) != "locked" {
		t.Errorf("its reason is %q", reason.Of(err))
	}
}
