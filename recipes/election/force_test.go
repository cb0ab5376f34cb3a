package election_test

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/election"
)

// grace is how long leaders have who step down by themselves: long, so that nothing
// depends on it.
const grace = 10 * time.Second

// asked waits until the leader of a name is asked to step down.
func asked(tb testing.TB, h *host, ns, name string) (down *electionv1.StepDown) {
	tb.Helper()
	eventually(tb, "the leader is asked to step down", func() bool {
		if l := contenders(tb, h, ns, name).GetLeaders(); len(l) > 0 {
			down = l[0].GetStepDown()
		}
		return down != nil
	})
	return down
}

// transfer asks for a transfer in the background.
func (h *host) transfer(tb testing.TB, req *electionv1.TransferRequest) <-chan error {
	done := make(chan error, 1)
	go func() {
		_, err := h.Transfer(testContext(tb), req)
		done <- err
	}()
	return done
}

// TestTransfer: a caller that leads resigns in favour of the candidate that was
// named, at the host that it campaigned at and at another one.
func TestTransfer(t *testing.T) {
	t.Parallel()
	one, two, ns := startHost(t, etcd.Client(t), nil), startHost(t, etcd.Client(t), nil), namespace(t)
	for what, at := range map[string]*host{"here": one, "elsewhere": two} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			name := "jobs " + what
			leader, first, heir := open(t, "leader "+what, ns), open(t, "first "+what, ns), open(t, "heir "+what, ns)
			resp, err := one.Campaign(leader.ctx, &electionv1.CampaignRequest{SessionId: leader.id, Namespace: ns, Name: name, Grace: durationpb.New(grace)})
			if err != nil {
				t.Fatal(err)
			}
			waiting := one.campaigning(first.ctx, first, name, "")
			one.inLine(t, ns, name, 1)
			chosen := two.campaigning(heir.ctx, heir, name, "")
			one.inLine(t, ns, name, 2)
			done := two.transfer(t, &electionv1.TransferRequest{Namespace: ns, Name: name, To: "heir " + what, By: "me"})
			down := asked(t, one, ns, name)
			if down.GetBy() != "me" || down.GetTo() != "heir "+what || down.GetGrace().AsDuration() != grace {
				t.Errorf("the leader is told %v", down)
			}
			if err := at.resign(leader, name, resp.GetToken()); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			got := <-chosen
			if got.err != nil || got.token <= resp.GetToken() {
				t.Fatalf("the heir gets %v", got)
			}
			past := history(t, one, ns, name)
			if len(past) != 1 || past[0].GetCause() != "transferred" || past[0].GetBy() != "me" || past[0].GetReason() != "transferred to heir "+what || !past[0].GetHandedOver() {
				t.Errorf("the history says %v", past)
			}
			if err := one.resign(heir, name, got.token); err != nil {
				t.Fatal(err)
			}
			if got = <-waiting; got.err != nil {
				t.Fatal(got.err)
			}
			if err := one.resign(first, name, got.token); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A leader that does not listen loses its term after its grace.
func TestTransferFromTheDeaf(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	leader, heir := open(t, "leader", ns), open(t, "heir", ns)
	resp, err := h.Campaign(leader.ctx, &electionv1.CampaignRequest{SessionId: leader.id, Namespace: ns, Name: "jobs", Grace: durationpb.New(50 * time.Millisecond)})
	if err != nil {
		t.Fatal(err)
	}
	chosen := h.campaigning(heir.ctx, heir, "jobs", "")
	h.inLine(t, ns, "jobs", 1)
	if err := <-h.transfer(t, &electionv1.TransferRequest{Namespace: ns, Name: "jobs", To: "heir", Token: resp.GetToken()}); err != nil {
		t.Fatal(err)
	}
	got := <-chosen
	if got.err != nil {
		t.Fatal(got.err)
	}
	want(t, h.resign(leader, "jobs", resp.GetToken()), codes.FailedPrecondition, "not_owner")
	if past := history(t, h, ns, "jobs"); len(past) != 1 || past[0].GetCause() != "transferred" || past[0].GetBy() != "operator" {
		t.Errorf("the history says %v", past)
	}
}

func TestTransferThatCannotBe(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	transfer := func(to string, token int64) error {
		return <-h.transfer(t, &electionv1.TransferRequest{Namespace: ns, Name: "jobs", To: to, Token: token})
	}
	want(t, transfer("heir", 0), codes.NotFound, "not_found")
	leader := open(t, "leader", ns)
	token := h.campaign(t, leader, "jobs", "")
	want(t, transfer("heir", 0), codes.NotFound, "not_found")
	want(t, transfer("leader", token+1), codes.FailedPrecondition, "stale_token")
	want(t, transfer("", 0), codes.InvalidArgument, "invalid_to")
	if err := transfer("leader", token); err != nil { // it leads already
		t.Fatal(err)
	}
	if down := contenders(t, h, ns, "jobs").GetLeaders()[0].GetStepDown(); down != nil {
		t.Errorf("the leader is told %v", down)
	}
}

// TestTransferOfASeat: of several leaders the one whose token is given steps down.
func TestTransferOfASeat(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	callers, tokens, answers := map[string]*caller{}, map[string]int64{}, map[string]<-chan answer{}
	for k, owner := range []string{"a", "b", "c", "d"} {
		c := open(t, owner, ns)
		callers[owner], answers[owner] = c, h.campaigningFor(c, "jobs", 2)
		if k < 2 {
			got := <-answers[owner]
			if got.err != nil {
				t.Fatal(got.err)
			}
			tokens[owner] = got.token
		} else {
			h.inLine(t, ns, "jobs", k-1)
		}
	}
	done := h.transfer(t, &electionv1.TransferRequest{Namespace: ns, Name: "jobs", To: "d", Token: tokens["b"]})
	eventually(t, "b is asked to step down", func() bool {
		l := contenders(t, h, ns, "jobs").GetLeaders()
		return l[0].GetStepDown() == nil && l[1].GetStepDown().GetTo() == "d"
	})
	if err := h.resign(callers["b"], "jobs", tokens["b"]); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got := <-answers["d"]
	if got.err != nil || got.token <= tokens["b"] {
		t.Fatalf("d gets %v", got)
	}
	if past := history(t, h, ns, "jobs"); len(past) != 1 || past[0].GetCause() != "transferred" || past[0].GetToken() != tokens["b"] {
		t.Errorf("the history says %v", past)
	}
	done = h.transfer(t, &electionv1.TransferRequest{Namespace: ns, Name: "jobs", To: "c"}) // in place of the longest
	asked(t, h, ns, "jobs")
	if err := h.resign(callers["a"], "jobs", tokens["a"]); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got = <-answers["c"]; got.err != nil {
		t.Fatal(got.err)
	}
}

// TestForceResign: a program that leads is told who wants it to go and why, a caller
// as well; then the first in line leads.
func TestForceResign(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	force := func(token int64) (int64, error) {
		resp, err := h.ForceResign(testContext(t), &electionv1.ForceResignRequest{Namespace: ns, Name: "jobs", Reason: "it hangs", By: "me", Token: token})
		return resp.GetToken(), err
	}
	if token, err := force(0); err != nil || token != 0 {
		t.Errorf("of an election without a leader it revokes %d, %v", token, err)
	}
	_, err := force(1 << 16)
	want(t, err, codes.FailedPrecondition, "stale_token")
	term := leads(t, session(t, "program", ns), "jobs", election.WithGrace(grace))
	next := open(t, "next", ns)
	waiting := h.campaigning(next.ctx, next, "jobs", "")
	h.inLine(t, ns, "jobs", 1)
	_, err = force(int64(term.Token()) + 1)
	want(t, err, codes.FailedPrecondition, "stale_token")
	resigned := make(chan error, 1)
	go func() {
		<-term.Context().Done()
		resigned <- term.Resign()
	}()
	if token, err := force(int64(term.Token())); err != nil || token != int64(term.Token()) {
		t.Fatalf("it revokes %d, %v", token, err)
	}
	if err := <-resigned; !errors.Is(err, core.ErrRevoked) {
		t.Errorf("the program hears %v", err)
	}
	got := <-waiting
	if got.err != nil {
		t.Fatal(got.err)
	}
	past := history(t, h, ns, "jobs")
	if len(past) != 1 || past[0].GetCause() != "forced" || past[0].GetBy() != "me" || past[0].GetReason() != "it hangs" || past[0].GetOwner() != "program" || !past[0].GetHandedOver() {
		t.Errorf("the history says %v", past)
	}
}
