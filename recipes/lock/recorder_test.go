package lock_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// passes takes and releases a name n times.
func passes(tb testing.TB, s *core.Session, name string, n int) (tokens []int64) {
	tb.Helper()
	for range n {
		held := locked(tb, s, name)
		tokens = append(tokens, int64(held.Token()))
		if err := held.Unlock(); err != nil {
			tb.Fatal(err)
		}
	}
	return tokens
}

func compact(tb testing.TB, e *coretest.Etcd) {
	tb.Helper()
	if _, err := e.Client(tb).Compact(testContext(tb), e.Revision(tb), clientv3.WithCompactPhysical()); err != nil {
		tb.Fatal(err)
	}
}

// written waits until n endings of a name stand in etcd.
func written(tb testing.TB, e *coretest.Etcd, ns, name string, n int) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d endings are written", n), func() bool {
		count := 0
		for _, kv := range e.Dump(tb, fmt.Sprintf("/conclave/%s/lock/_history/%s/", ns, name)) {
			count += strings.Count(string(kv.Value), `"token":`)
		}
		return count >= n
	})
}

// tokensOf returns the tokens of a history, oldest first.
func tokensOf(endings []*lockv1.Ending) (tokens []int64) {
	for _, e := range slices.Backward(endings) {
		tokens = append(tokens, e.GetToken())
	}
	return tokens
}

// TestPastOfABusyName: endings are written while others follow them without a pause.
func TestPastOfABusyName(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	startHost(t, e.Client(t), nil)
	stop, done := make(chan struct{}), make(chan struct{}, 8)
	for i := range cap(done) {
		s, name := sessionOn(t, e, fmt.Sprint("user-", i), "default"), fmt.Sprint("busy-", i)
		go func() {
			defer func() { done <- struct{}{} }()
			for {
				select {
				case <-stop:
					return
				default:
					passes(t, s, name, 1)
				}
			}
		}()
	}
	written(t, e, "default", "busy-0", 30)
	close(stop)
	for range cap(done) {
		<-done
	}
}

// TestPastSurvives: what was recorded stands after a compaction, and what ended
// while no host was up is found by the next one.
func TestPastSurvives(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	s := sessionOn(t, e, "user", "default")
	first := startHost(t, e.Client(t), nil)
	tokens := passes(t, s, "jobs", 3)
	written(t, e, "default", "jobs", 3)
	compact(t, e)
	if got := tokensOf(past(t, first, "default", "jobs")); fmt.Sprint(got) != fmt.Sprint(tokens) {
		t.Fatalf("after a compaction the history has the tokens %v, want %v", got, tokens)
	}
	first.Stop(t)
	tokens = append(tokens, passes(t, s, "jobs", 2)...)
	second := startHost(t, e.Client(t), nil)
	got := past(t, second, "default", "jobs")
	if fmt.Sprint(tokensOf(got)) != fmt.Sprint(tokens) {
		t.Fatalf("after a restart the history has the tokens %v, want %v", tokensOf(got), tokens)
	}
	for _, e := range got {
		if e.GetCause() != "released" {
			t.Errorf("an ending is told as %v", e)
		}
	}
	written(t, e, "default", "jobs", 5)
	compact(t, e)
	if got := tokensOf(past(t, second, "default", "jobs")); fmt.Sprint(got) != fmt.Sprint(tokens) {
		t.Fatalf("after all that the history has the tokens %v, want %v", got, tokens)
	}
}

// TestPastSaysWhatIsMissing: what was compacted before a recorder saw it is a gap.
func TestPastSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	s := sessionOn(t, e, "user", "default")
	first := startHost(t, e.Client(t), nil)
	tokens := passes(t, s, "jobs", 1)
	written(t, e, "default", "jobs", 1)
	first.Stop(t)
	passes(t, s, "jobs", 1)
	from := e.Revision(t)
	compact(t, e)
	tokens = append(tokens, passes(t, s, "jobs", 1)...)
	second := startHost(t, e.Client(t), nil)
	check := func() bool {
		t.Helper()
		resp := history(t, second, "default", "jobs")
		if got := tokensOf(resp.GetEndings()); fmt.Sprint(got) != fmt.Sprint(tokens) {
			t.Fatalf("the history has the tokens %v, want %v", got, tokens)
		}
		if len(resp.GetGaps()) != 1 || resp.GetGaps()[0].GetToRevision() != from {
			t.Fatalf("the gaps are %v, want one until %d", resp.GetGaps(), from)
		}
		return true
	}
	check()
	written(t, e, "default", "jobs", 2)
	check()
}

// TestOneRecorder: of two hosts one records, the other goes on where it stopped,
// and nothing is told twice.
func TestOneRecorder(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	s := sessionOn(t, e, "user", "default")
	first, second := startHost(t, e.Client(t), nil), startHost(t, e.Client(t), nil)
	tokens := passes(t, s, "jobs", 5)
	written(t, e, "default", "jobs", 5)
	for _, h := range []*host{first, second} {
		if got := tokensOf(past(t, h, "default", "jobs")); fmt.Sprint(got) != fmt.Sprint(tokens) {
			t.Fatalf("the history has the tokens %v, want %v", got, tokens)
		}
	}
	first.Stop(t)
	tokens = append(tokens, passes(t, s, "jobs", 5)...)
	written(t, e, "default", "jobs", 10)
	if got := tokensOf(past(t, second, "default", "jobs")); fmt.Sprint(got) != fmt.Sprint(tokens) {
		t.Fatalf("after the first host stopped the history has the tokens %v, want %v", got, tokens)
	}
}

func TestPastIsBounded(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	s := sessionOn(t, e, "user", "default")
	h := startHost(t, e.Client(t), &lockv1.Config{HistoryEndings: 7})
	tokens := passes(t, s, "jobs", 30)
	check := func() {
		t.Helper()
		if got := tokensOf(past(t, h, "default", "jobs")); fmt.Sprint(got) != fmt.Sprint(tokens[len(tokens)-7:]) {
			t.Fatalf("the history has the tokens %v, want the last 7 of %v", got, tokens)
		}
	}
	check()
	for range 3 {
		tokens = append(tokens, passes(t, s, "jobs", 5)...)
		check()
	}
	eventually(t, "the last one is written", func() bool {
		kvs := e.Dump(t, "/conclave/default/lock/_history/jobs/")
		return len(kvs) > 0 && strings.Contains(string(kvs[len(kvs)-1].Value), fmt.Sprint(tokens[len(tokens)-1]))
	})
	count := 0
	for _, kv := range e.Dump(t, "/conclave/default/lock/_history/jobs/") {
		count += strings.Count(string(kv.Value), `"token":`)
	}
	if count > 13 {
		t.Errorf("%d endings stand in etcd, of which 7 are kept", count)
	}
}

// TestPastTellsHowItEnded goes through the causes that a mutex does not have.
func TestPastTellsHowItEnded(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), "default"
	ctx := testContext(t)
	a, b := session(t, "a", ns), session(t, "b", ns)
	name := etcd.Prefix(t)
	t.Run("downgraded", func(t *testing.T) {
		write, err := lock.NewRWMutex(a, name+"-rw").Lock(ctx)
		if err != nil {
			t.Fatal(err)
		}
		read, err := write.Downgrade(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if err := read.Unlock(); err != nil {
			t.Fatal(err)
		}
		got := past(t, h, ns, name+"-rw")
		if len(got) != 2 || got[1].GetCause() != "downgraded" || got[1].GetMode() != "write" || got[0].GetCause() != "released" || got[0].GetMode() != "read" {
			t.Errorf("the history is %v", got)
		}
	})
	t.Run("permits", func(t *testing.T) {
		one, err := lock.NewSemaphore(a, name+"-sem", 2).Acquire(ctx, 2)
		if err != nil {
			t.Fatal(err)
		}
		next := make(chan *lock.Permit, 2)
		for range 2 {
			go func() {
				p, err := lock.NewSemaphore(b, name+"-sem", 2).Acquire(ctx, 1)
				if err != nil {
					t.Error(err)
				}
				next <- p
			}()
		}
		eventually(t, "both wait", func() bool { return len(why(t, h, ns, name+"-sem").GetWaiters()) == 2 })
		if err := one.Release(); err != nil {
			t.Fatal(err)
		}
		tokens := map[int64]bool{}
		for range 2 {
			p := <-next
			tokens[int64(p.Token())] = true
			if err := p.Release(); err != nil {
				t.Fatal(err)
			}
		}
		got := past(t, h, ns, name+"-sem")
		if len(got) != 3 || got[2].GetToken() != int64(one.Token()) || got[2].GetPermits() != 2 || !got[2].GetHandedOver() ||
			!tokens[got[0].GetToken()] || !tokens[got[1].GetToken()] || got[0].GetToken() == got[1].GetToken() {
			t.Errorf("the history is %v, want the tokens %v", got, tokens)
		}
	})
	t.Run("deleted", func(t *testing.T) {
		first := locked(t, a, name+"-hand")
		waited := make(chan *lock.Held, 1)
		go func() {
			held, err := lock.NewMutex(b, name+"-hand").Lock(ctx)
			if err != nil {
				t.Error(err)
			}
			waited <- held
		}()
		eventually(t, "b waits", func() bool { return len(why(t, h, ns, name+"-hand").GetWaiters()) == 1 })
		if err := first.Unlock(); err != nil {
			t.Fatal(err)
		}
		held := <-waited
		if _, err := etcd.Client(t).Delete(ctx, fmt.Sprintf("/conclave/%s/lock/%s/grant", ns, strings.ReplaceAll(name+"-hand", "/", "%2F"))); err != nil {
			t.Fatal(err)
		}
		<-held.Context().Done()
		if got := past(t, h, ns, name+"-hand"); len(got) != 2 || got[0].GetCause() != "deleted" {
			t.Errorf("the history is %v", got)
		}
	})
}

// TestPastOfAnotherNamespace: a namespace is recorded from the first call on
// that uses it, by the recorder of whatever host.
func TestPastOfAnotherNamespace(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	h := startHost(t, e.Client(t), nil)
	s := sessionOn(t, e, "user", "team-1")
	tokens := passes(t, s, "jobs", 2)
	if got := tokensOf(past(t, h, "team-1", "jobs")); fmt.Sprint(got) != fmt.Sprint(tokens) {
		t.Fatalf("the history has the tokens %v, want %v", got, tokens)
	}
	written(t, e, "team-1", "jobs", 2)
	compact(t, e)
	if got := tokensOf(past(t, h, "team-1", "jobs")); fmt.Sprint(got) != fmt.Sprint(tokens) {
		t.Fatalf("after a compaction the history has the tokens %v, want %v", got, tokens)
	}
}

// TestNoHistory: a recipe that is told to keep none writes none.
func TestNoHistory(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	h := startHost(t, e.Client(t), &lockv1.Config{HistoryOff: true})
	passes(t, sessionOn(t, e, "user", "default"), "jobs", 1)
	if got := past(t, h, "default", "jobs"); len(got) != 1 {
		t.Errorf("what etcd still knows is %v", got)
	}
	h.Stop(t)
	for _, kv := range e.Dump(t, "/conclave/") {
		t.Errorf("%s stands", kv.Key)
	}
}
