package lock_test

import (
	"fmt"
	"testing"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

func history(tb testing.TB, h *host, ns, name string) *lockv1.HistoryResponse {
	tb.Helper()
	resp, err := h.History(testContext(tb), &lockv1.HistoryRequest{Namespace: ns, Name: name})
	if err != nil {
		tb.Fatal(err)
	}
	return resp
}

func past(tb testing.TB, h *host, ns, name string) []*lockv1.Ending {
	tb.Helper()
	resp := history(tb, h, ns, name)
	if len(resp.GetGaps()) > 0 {
		tb.Fatalf("the history has gaps: %v", resp.GetGaps())
	}
	return resp.GetEndings()
}

// known waits until the recorder knows a session.
func known(tb testing.TB, e *coretest.Etcd, s *core.Session) {
	tb.Helper()
	eventually(tb, "the recorder knows the session", func() bool {
		return len(e.Dump(tb, fmt.Sprintf("/conclave/%s/lock/_lease/%016x", s.Namespace(), int64(s.Lease())))) == 1
	})
}

// TestPastOfTheLibrary: ownerships that no host served end in the history, each
// with its cause, and at once.
func TestPastOfTheLibrary(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), "default"
	name := etcd.Prefix(t)
	ctx := testContext(t)
	a, b, dies := session(t, "a", ns), session(t, "b", ns), session(t, "dies", ns)
	first := locked(t, a, name, lock.WithPurpose("one"))
	if err := first.Unlock(); err != nil {
		t.Fatal(err)
	}
	if got := past(t, h, ns, name); len(got) != 1 || got[0].GetCause() != "released" || got[0].GetToken() != int64(first.Token()) ||
		got[0].GetOwner() != "a" || got[0].GetPurpose() != "one" || got[0].GetHandedOver() {
		t.Fatalf("after a release the history is %v", got)
	}
	second := locked(t, a, name)
	next := make(chan *lock.Held, 1)
	go func() {
		held, err := lock.NewMutex(b, name).Lock(ctx)
		if err != nil {
			t.Error(err)
		}
		next <- held
	}()
	eventually(t, "b waits", func() bool {
		cs, err := lock.NewMutex(a, name).Contenders(ctx)
		return err == nil && len(cs) == 2
	})
	if err := second.Unlock(); err != nil {
		t.Fatal(err)
	}
	third := <-next
	if _, err := lock.NewMutex(a, name).ForceRelease(ctx, "maintenance"); err != nil {
		t.Fatal(err)
	}
	<-third.Context().Done()
	fourth := locked(t, dies, name)
	known(t, etcd, dies)
	coretest.ExpireLease(t, etcd.Client(t), dies.Lease())
	got := past(t, h, ns, name)
	if len(got) != 4 {
		t.Fatalf("the history has %d endings: %v", len(got), got)
	}
	check := func(i int, token int64, cause string, passed bool) {
		t.Helper()
		if e := got[i]; e.GetToken() != token || e.GetCause() != cause || e.GetHandedOver() != passed {
			t.Errorf("ending %d is %v, want token %d, cause %s, handed over %v", i, e, token, cause, passed)
		}
	}
	check(3, int64(first.Token()), "released", false)
	check(2, int64(second.Token()), "released", true)
	check(1, int64(third.Token()), "forced", false)
	check(0, int64(fourth.Token()), "session_ended", false)
	if e := got[1]; e.GetBy() != "a" || e.GetReason() != "maintenance" {
		t.Errorf("the forced release reads %v", e)
	}
}
