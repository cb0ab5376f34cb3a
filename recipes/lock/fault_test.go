package lock_test

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/conclavehq/conclave/core/coretest"
)

// complete checks that the past of a name has exactly these tokens.
func complete(tb testing.TB, h *host, ns, name string, tokens []int64) {
	tb.Helper()
	if got := tokensOf(past(tb, h, ns, name)); fmt.Sprint(got) != fmt.Sprint(tokens) {
		tb.Fatalf("the history has the tokens %v, want %v", got, tokens)
	}
}

func TestRecorderIsStoppedInAWrite(t *testing.T) {
	t.Parallel()
	e, faults := coretest.StartEtcd(t), coretest.NewFaults()
	s := sessionOn(t, e, "user", "default")
	first := startHost(t, e.Client(t, faults.DialOptions()...), nil)
	lost := faults.LoseRequest(coretest.Puts("/_history/jobs/"), coretest.Silently(), coretest.Always())
	tokens := passes(t, s, "jobs", 3)
	if err := lost.Wait(testContext(t)); err != nil {
		t.Fatal(err)
	}
	complete(t, first, "default", "jobs", tokens)
	first.Stop(t)
	second := startHost(t, e.Client(t), nil)
	complete(t, second, "default", "jobs", tokens)
	written(t, e, "default", "jobs", len(tokens))
	complete(t, second, "default", "jobs", tokens)
}

func TestRecorderLosesAReply(t *testing.T) {
	t.Parallel()
	e, faults := coretest.StartEtcd(t), coretest.NewFaults()
	s := sessionOn(t, e, "user", "default")
	h := startHost(t, e.Client(t, faults.DialOptions()...), nil)
	lost := faults.LoseReply(coretest.Puts("/_history/jobs/"))
	tokens := passes(t, s, "jobs", 3)
	if err := lost.Wait(testContext(t)); err != nil {
		t.Fatal(err)
	}
	tokens = append(tokens, passes(t, s, "jobs", 3)...)
	written(t, e, "default", "jobs", len(tokens))
	complete(t, h, "default", "jobs", tokens)
}

// TestRecorderThatWasReplaced: what an earlier recorder sent, and etcd is given
// only now, writes nothing.
func TestRecorderThatWasReplaced(t *testing.T) {
	t.Parallel()
	e, faults := coretest.StartEtcd(t), coretest.NewFaults()
	s := sessionOn(t, e, "user", "default")
	first := startHost(t, e.Client(t, faults.DialOptions()...), nil)
	late := faults.Late(coretest.Puts("/_history/jobs/"), coretest.Silently())
	tokens := passes(t, s, "jobs", 3)
	if err := late.Wait(testContext(t)); err != nil {
		t.Fatal(err)
	}
	first.Stop(t)
	second := startHost(t, e.Client(t), nil)
	tokens = append(tokens, passes(t, s, "jobs", 2)...)
	written(t, e, "default", "jobs", len(tokens))
	before := len(e.Dump(t, "/conclave/default/lock/_history/jobs/"))
	if _, err := late.Deliver(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if after := len(e.Dump(t, "/conclave/default/lock/_history/jobs/")); after != before {
		t.Errorf("the late write makes %d chunks of %d", after, before)
	}
	complete(t, second, "default", "jobs", tokens)
}

// TestReleaseOfUnknownOutcome: the caller is told so, and finds out by calling
// again.
func TestReleaseOfUnknownOutcome(t *testing.T) {
	t.Parallel()
	e, faults := coretest.StartEtcd(t), coretest.NewFaults()
	h := startHost(t, e.Client(t, faults.DialOptions()...), nil)
	a := openOn(t, e, "a", "default")
	token := h.acquire(t, a, "jobs")
	lost := faults.LoseReply(coretest.Deletes("/jobs/grant"))
	err := h.release(a, "jobs", token)
	if lost.Fired() == 0 {
		t.Fatal("no reply was lost")
	}
	if err != nil { // else the library found out by itself
		want(t, err, codes.Unknown, "outcome_unknown")
	}
	want(t, h.release(a, "jobs", token), codes.FailedPrecondition, "not_owner")
	if next := h.acquire(t, a, "jobs"); next <= token {
		t.Errorf("token %d follows %d", next, token)
	}
}
