package election_test

import (
	"fmt"
	"os"
	"testing"

	"google.golang.org/grpc/codes"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/election"
)

func TestLeaderAndContenders(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	_, err := h.Leader(testContext(t), &electionv1.LeaderRequest{Namespace: ns, Name: "jobs"})
	want(t, err, codes.NotFound, "not_found")
	if got := contenders(t, h, ns, "jobs"); got.GetName() != "jobs" || got.GetSeats() != 0 || len(got.GetLeaders())+len(got.GetCandidates()) != 0 {
		t.Errorf("of a free name it says %v", got)
	}
	program, caller := session(t, "program", ns), open(t, "caller", ns)
	term := leads(t, program, "jobs", election.WithPurpose("import"), election.WithZone("a"))
	h.campaigning(caller.ctx, caller, "jobs", "address")
	h.inLine(t, ns, "jobs", 1)
	l, err := h.Leader(testContext(t), &electionv1.LeaderRequest{Namespace: ns, Name: "jobs"})
	if err != nil || l.GetName() != "jobs" || l.GetOwner() != "program" || l.GetValue() != "program" || l.GetToken() != int64(term.Token()) ||
		l.GetSince() == nil || l.GetRevision() <= 0 || len(l.GetLeaders()) != 1 {
		t.Fatalf("it says %v, %v", l, err)
	}
	got := contenders(t, h, ns, "jobs")
	leader, candidate := got.GetLeaders()[0], got.GetCandidates()[0]
	if got.GetSeats() != 1 || leader.GetOwner() != "program" || leader.GetPurpose() != "import" || leader.GetZone() != "a" || leader.GetId() == "" ||
		leader.GetPid() != int32(os.Getpid()) || leader.GetHost() == "" || leader.GetLease() != int64(program.Lease()) || leader.GetTtl().AsDuration() <= 0 || leader.GetStepDown() != nil {
		t.Errorf("the leader is %v", leader)
	}
	// The machine of a caller is not known: whoever ended the host's process in its
	// place would end everybody's calls.
	if candidate.GetOwner() != "caller" || candidate.GetValue() != "address" || candidate.GetPid() != 0 || candidate.GetHost() != "" ||
		candidate.GetLease() != int64(caller.lease) || candidate.GetSince() == nil {
		t.Errorf("the candidate is %v", candidate)
	}
	resign(t, term)
	eventually(t, "the caller leads", func() bool {
		l, err := h.Leader(testContext(t), &electionv1.LeaderRequest{Namespace: ns, Name: "jobs"})
		return err == nil && l.GetOwner() == "caller" && l.GetValue() == "address"
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	s, ctx := session(t, "leader", ns), testContext(t)
	for i := range 25 {
		leads(t, s, fmt.Sprintf("page/%02d", i))
	}
	term := leads(t, s, "a seat", election.WithSeats(3), election.WithPurpose("work"))
	stands(t, session(t, "candidate", ns), "page/00")
	h.inLine(t, ns, "page/00", 1)
	if _, err := h.History(ctx, &electionv1.HistoryRequest{Namespace: ns, Name: "page/00"}); err != nil { // which is none of the names
		t.Fatal(err)
	}
	var all []*electionv1.Election
	req := &electionv1.ListRequest{Namespace: ns, PageSize: 10}
	for pages := 1; ; pages++ {
		resp, err := h.List(ctx, req)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, resp.GetElections()...)
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			if pages != 3 {
				t.Errorf("%d pages, want 3", pages)
			}
			break
		}
	}
	if len(all) != 26 || all[0].GetName() != "a seat" || all[1].GetName() != "page/00" || all[25].GetName() != "page/24" {
		t.Fatalf("listed %v", all)
	}
	if e := all[0]; e.GetSeats() != 3 || e.GetLeaderCount() != 1 || e.GetCandidates() != 0 || e.GetToken() != int64(term.Token()) || e.GetPurpose() != "work" ||
		e.GetOwner() != "leader" || e.GetSince() == nil || e.GetTtl().AsDuration() <= 0 || e.GetLeaders()[0].GetTtl().AsDuration() <= 0 {
		t.Errorf("the one with seats is listed as %v", e)
	}
	if e := all[1]; e.GetSeats() != 1 || e.GetCandidates() != 1 || e.GetValue() != "leader" {
		t.Errorf("the one with a candidate is listed as %v", e)
	}
	resp, err := h.List(ctx, &electionv1.ListRequest{Namespace: ns, Prefix: "page/1"})
	if err != nil || len(resp.GetElections()) != 10 {
		t.Errorf("with a prefix it lists %v, %v", resp, err)
	}
}

// Watch tells candidates, values, and that a leader has to step down.
func TestWatch(t *testing.T) {
	t.Parallel()
	h, ns := startHost(t, etcd.Client(t), nil), namespace(t)
	a, b := open(t, "a", ns), open(t, "b", ns)
	token := h.campaign(t, a, "jobs", "one")
	stream, err := h.Watch(testContext(t), &electionv1.WatchRequest{Namespace: ns, Name: "jobs"})
	if err != nil {
		t.Fatal(err)
	}
	next := func(what string, ok func(e *electionv1.Election) bool) {
		t.Helper()
		for {
			resp, err := stream.Recv()
			if err != nil {
				t.Fatalf("waiting for %s: %v", what, err)
			}
			for _, e := range resp.GetElections() {
				if e.GetName() == "jobs" && ok(e) {
					return
				}
			}
		}
	}
	next("the leader", func(e *electionv1.Election) bool {
		return e.GetToken() == token && e.GetValue() == "one" && e.GetCandidates() == 0
	})
	if _, err := h.Proclaim(a.ctx, &electionv1.ProclaimRequest{SessionId: a.id, Namespace: ns, Name: "jobs", Token: token, Value: "two"}); err != nil {
		t.Fatal(err)
	}
	next("the value", func(e *electionv1.Election) bool {
		return e.GetValue() == "two" && e.GetLeaders()[0].GetValue() == "two"
	})
	standing := h.campaigning(b.ctx, b, "jobs", "b")
	next("the candidate", func(e *electionv1.Election) bool { return e.GetCandidates() == 1 })
	forced := make(chan error, 1)
	go func() {
		_, err := h.ForceResign(testContext(t), &electionv1.ForceResignRequest{Namespace: ns, Name: "jobs", Reason: "test", By: "me"})
		forced <- err
	}()
	next("that the leader has to go", func(e *electionv1.Election) bool {
		down := e.GetLeaders()[0].GetStepDown()
		return down.GetBy() == "me" && down.GetReason() == "test" && down.GetTo() == "" && down.GetGrace().AsDuration() > 0
	})
	if err := h.resign(a, "jobs", token); err != nil {
		t.Fatal(err)
	}
	if err := <-forced; err != nil {
		t.Fatal(err)
	}
	got := <-standing
	next("the next leader", func(e *electionv1.Election) bool {
		return e.GetToken() == got.token && e.GetValue() == "b" && e.GetLeaders()[0].GetStepDown() == nil
	})
	if err := h.resign(b, "jobs", got.token); err != nil {
		t.Fatal(err)
	}
	next("nobody", func(e *electionv1.Election) bool {
		return e.GetLeaderCount() == 0 && e.GetOwner() == "" && e.GetSeats() == 0
	})
	h.Stop(t)
	_, err = stream.Recv()
	want(t, err, codes.Unavailable, "recipe_restarting")
}
