package election_test

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
)

func TestSeats(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	a, b, c := open(t, "a", "default"), open(t, "b", "default"), open(t, "c", "default")
	seat := func(c *caller, seats int32) (int64, error) {
		resp, err := h.Campaign(c.ctx, &electionv1.CampaignRequest{SessionId: c.id, Name: name, Value: c.id, Seats: seats, Wait: durationpb.New(0)})
		return resp.GetToken(), err
	}
	first, err := seat(a, 2)
	if err != nil {
		t.Fatal(err)
	}
	second, err := seat(b, 2)
	if err != nil || second <= first {
		t.Fatal(second, err)
	}
	_, err = seat(c, 2)
	want(t, err, codes.Aborted, "locked")
	_, err = seat(c, 5)
	want(t, err, codes.Aborted, "conflict")
	_, err = seat(a, 3)
	want(t, err, codes.Aborted, "conflict")
	l, err := h.Leader(testContext(t), &electionv1.LeaderRequest{Name: name})
	if err != nil || l.GetToken() != first || len(l.GetLeaders()) != 2 || l.GetLeaders()[1].GetToken() != second || l.GetLeaders()[1].GetValue() != b.id {
		t.Fatalf("it shows %v, %v", l, err)
	}
	if got := contenders(t, h, "default", name); got.GetSeats() != 2 || len(got.GetLeaders()) != 2 || got.GetLeaders()[0].GetTtl().AsDuration() <= 0 {
		t.Errorf("the contenders are %v", got)
	}
	third := h.campaigningFor(c, name, 2)
	h.inLine(t, "default", name, 1)
	if err := h.resign(a, name, first); err != nil {
		t.Fatal(err)
	}
	got := <-third
	if got.err != nil || got.token <= second {
		t.Fatalf("the third gets %v", got)
	}
	for c, token := range map[*caller]int64{b: second, c: got.token} {
		if err := h.resign(c, name, token); err != nil {
			t.Error(err)
		}
	}
}

// campaigningFor is campaigning for one of several seats.
func (h *host) campaigningFor(c *caller, name string, seats int32) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		resp, err := h.Campaign(c.ctx, &electionv1.CampaignRequest{SessionId: c.id, Namespace: c.s.Namespace(), Name: name, Value: c.id, Seats: seats})
		answers <- answer{resp.GetToken(), err}
	}()
	return answers
}

// Candidates stand by priority, then by zone, then by age, and are shown so.
func TestPriorityAndZones(t *testing.T) {
	t.Parallel()
	h, name := startHost(t, etcd.Client(t), nil), etcd.Prefix(t)
	leader := open(t, "leader", "default")
	token := h.campaign(t, leader, name, "v")
	answers, owners := map[string]<-chan answer{}, map[string]*caller{}
	for k, c := range []struct {
		owner, zone string
		priority    int32
	}{{"far", "c", 0}, {"second", "b", 0}, {"best", "a", 0}, {"second too", "b", 0}, {"urgent", "c", 1}} {
		who := open(t, c.owner, "default")
		got := make(chan answer, 1)
		go func() {
			resp, err := h.Campaign(who.ctx, &electionv1.CampaignRequest{SessionId: who.id, Name: name, Value: c.owner, Zone: c.zone,
				PreferredZones: []string{"a", "b"}, Priority: c.priority, Purpose: "test"})
			got <- answer{resp.GetToken(), err}
		}()
		answers[c.owner], owners[c.owner] = got, who
		h.inLine(t, "default", name, k+1)
	}
	var order []string
	for _, c := range contenders(t, h, "default", name).GetCandidates() {
		order = append(order, c.GetOwner()+" in "+c.GetZone())
		if c.GetPurpose() != "test" || c.GetValue() != c.GetOwner() || c.GetTtl().AsDuration() <= 0 || (c.GetOwner() == "urgent") != (c.GetPriority() == 1) {
			t.Errorf("a candidate is %v", c)
		}
	}
	if want := []string{"urgent in c", "best in a", "second in b", "second too in b", "far in c"}; !slices.Equal(order, want) {
		t.Fatalf("they stand as %q, want %q", order, want)
	}
	last := leader
	for _, next := range order {
		owner, zone, _ := strings.Cut(next, " in ")
		if err := h.resign(last, name, token); err != nil {
			t.Fatal(err)
		}
		got := <-answers[owner]
		if got.err != nil || got.token <= token {
			t.Fatalf("%s gets %v", owner, got)
		}
		last, token = owners[owner], got.token
		if l := contenders(t, h, "default", name).GetLeaders(); len(l) != 1 || l[0].GetZone() != zone || l[0].GetPurpose() != "test" {
			t.Errorf("the leader is %v", l)
		}
	}
	if err := h.resign(last, name, token); err != nil {
		t.Fatal(err)
	}
}
