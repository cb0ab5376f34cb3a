package election_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
)

func past(tb testing.TB, h *host, ns, name string) *electionv1.HistoryResponse {
	tb.Helper()
	resp, err := h.History(testContext(tb), &electionv1.HistoryRequest{Namespace: ns, Name: name})
	if err != nil {
		tb.Fatal(err)
	}
	return resp
}

// history is a past without gaps.
func history(tb testing.TB, h *host, ns, name string) []*electionv1.Term {
	tb.Helper()
	resp := past(tb, h, ns, name)
	if len(resp.GetGaps()) > 0 {
		tb.Fatalf("the history has gaps: %v", resp.GetGaps())
	}
	return resp.GetTerms()
}

// known waits until the recorder knows a session.
func known(tb testing.TB, e *coretest.Etcd, s *core.Session) {
	tb.Helper()
	eventually(tb, "the recorder knows the session", func() bool {
		return len(e.Dump(tb, fmt.Sprintf("/conclave/%s/election/_lease/%016x", s.Namespace(), int64(s.Lease())))) == 1
	})
}

// written waits until n terms of a name stand in etcd.
func written(tb testing.TB, e *coretest.Etcd, name string, n int) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d terms are written", n), func() bool {
		count := 0
		for _, kv := range e.Dump(tb, fmt.Sprintf("/conclave/default/election/_history/%s/", name)) {
			count += strings.Count(string(kv.Value), `"token":`)
		}
		return count >= n
	})
}

func compact(tb testing.TB, e *coretest.Etcd) {
	tb.Helper()
	if _, err := e.Client(tb).Compact(testContext(tb), e.Revision(tb), clientv3.WithCompactPhysical()); err != nil {
		tb.Fatal(err)
	}
}

// TestHistoryTellsWhyTermsEnded goes through the causes: of callers and of programs
// that no host served.
func TestHistoryTellsWhyTermsEnded(t *testing.T) {
	t.Parallel()
	h, ns, name := startHost(t, etcd.Client(t), nil), "default", etcd.Prefix(t)
	caller, program := open(t, "caller", ns), session(t, "program", ns)
	var wants []string
	ends := func(cause, by, reason string, handedOver bool) {
		t.Helper()
		wants = append([]string{fmt.Sprint(cause, " by ", by, ": ", reason, ", ", handedOver)}, wants...)
		var got []string
		for _, e := range history(t, h, ns, name) {
			got = append(got, fmt.Sprint(e.GetCause(), " by ", e.GetBy(), ": ", e.GetReason(), ", ", e.GetHandedOver()))
		}
		if !slices.Equal(got, wants) {
			t.Fatalf("the history is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(wants, "\n"))
		}
	}
	token := h.campaign(t, caller, name, "a:1")
	if err := h.resign(caller, name, token); err != nil {
		t.Fatal(err)
	}
	ends("resigned", "", "", false)
	if e := history(t, h, ns, name)[0]; e.GetToken() != token || e.GetOwner() != "caller" || e.GetValue() != "a:1" || e.GetLed().AsDuration() < 0 ||
		e.GetSince() == nil || e.GetUntil() == nil || e.GetLease() != int64(caller.lease) {
		t.Errorf("the term is told as %v", e)
	}

	sick := make(chan struct{})
	check := func(context.Context) error {
		select {
		case <-sick:
			return errors.New("disk is full")
		default:
			return nil
		}
	}
	unhealthy := leads(t, program, name, election.WithHealth(check, time.Second), election.WithZone("z"), election.WithPurpose("p"))
	next := h.campaigning(caller.ctx, caller, name, "")
	h.inLine(t, ns, name, 1)
	close(sick)
	<-unhealthy.Context().Done()
	resign(t, unhealthy)
	got := <-next
	if got.err != nil {
		t.Fatal(got.err)
	}
	ends("unhealthy", "", "disk is full", true)
	if e := history(t, h, ns, name)[0]; e.GetZone() != "z" || e.GetPurpose() != "p" || e.GetPid() == 0 {
		t.Errorf("the term is told as %v", e)
	}

	waits := stands(t, session(t, "heir", ns), name)
	h.inLine(t, ns, name, 1)
	done := h.transfer(t, &electionv1.TransferRequest{Name: name, To: "heir", By: "ops"})
	asked(t, h, ns, name)
	if err := h.resign(caller, name, got.token); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ends("transferred", "ops", "transferred to heir", true)

	heir := <-waits
	go func() {
		<-heir.Context().Done()
		_ = heir.Resign()
	}()
	if _, err := h.ForceResign(testContext(t), &electionv1.ForceResignRequest{Name: name, Reason: "maintenance", By: "ops"}); err != nil {
		t.Fatal(err)
	}
	ends("forced", "ops", "maintenance", false)

	alone := leads(t, program, name, election.WithHealth(failing("no disk"), 250*time.Millisecond)) // and nobody stands
	<-alone.Context().Done()
	resign(t, alone)
	ends("unhealthy", "", "no disk", false)

	dies := session(t, "dies", ns)
	leads(t, dies, name)
	known(t, etcd, dies)
	coretest.ExpireLease(t, etcd.Client(t), dies.Lease())
	ends("session_ended", "", "", false)
}

// failing is a check that passes before the candidate stands, and then no more.
func failing(reason string) func(context.Context) error {
	var asked atomic.Int32
	return func(context.Context) error {
		if asked.Add(1) == 1 {
			return nil
		}
		return errors.New(reason)
	}
}

// TestHistorySurvives: what was recorded stands after a compaction, what ended while
// no host was up is found by the next one, and what is lost is called a gap.
func TestHistorySurvives(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	s := sessionOn(t, e, "program", "default")
	var tokens []int64
	passes := func(n int) {
		for range n {
			term := leads(t, s, "jobs")
			tokens = append([]int64{int64(term.Token())}, tokens...)
			resign(t, term)
		}
	}
	complete := func(h *host, gaps int) {
		t.Helper()
		resp := past(t, h, "default", "jobs")
		var got []int64
		for _, term := range resp.GetTerms() {
			got = append(got, term.GetToken())
		}
		if !slices.Equal(got, tokens) || len(resp.GetGaps()) != gaps {
			t.Fatalf("the history has %v with the gaps %v, want %v", got, resp.GetGaps(), tokens)
		}
	}
	first := startHost(t, e.Client(t), &electionv1.Config{HistoryEndings: 10})
	passes(3)
	written(t, e, "jobs", 3)
	compact(t, e)
	complete(first, 0)
	first.Stop(t)
	passes(2)
	second := startHost(t, e.Client(t), &electionv1.Config{HistoryEndings: 10})
	complete(second, 0)
	written(t, e, "jobs", 5)
	second.Stop(t)
	before := tokens
	passes(1) // which nobody records
	compact(t, e)
	tokens = before
	passes(1)
	third := startHost(t, e.Client(t), &electionv1.Config{HistoryEndings: 10})
	complete(third, 1)
	passes(20)
	tokens = tokens[:10]
	complete(third, 1)
}

// TestNoHistory: a recipe that is told to keep none writes none.
func TestNoHistory(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t)
	h := startHost(t, e.Client(t), &electionv1.Config{HistoryOff: true})
	resign(t, leads(t, sessionOn(t, e, "program", "default"), "jobs"))
	if got := history(t, h, "default", "jobs"); len(got) != 1 {
		t.Errorf("what etcd still knows is %v", got)
	}
	h.Stop(t)
	for _, kv := range e.Dump(t, "/conclave/") {
		t.Errorf("%s stands", kv.Key)
	}
}
