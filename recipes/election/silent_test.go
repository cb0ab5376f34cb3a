package election_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
)

// Who asks while etcd is away is told so, and soon: etcd's client alone would wait
// for as long as the caller does.
func TestAnswersThatEtcdIsAway(t *testing.T) {
	t.Parallel()
	link := etcd.Link(t)
	h := startHost(t, coretest.Dial(t, link.Endpoint()), &electionv1.Config{HistoryOff: true})
	s := session(t, "leads", "default", core.WithTTL(2*servicetest.Patience))
	c, name := callerOf(t, s), etcd.Prefix(t)
	token := h.campaign(t, c, name, "v")
	o := observe(t, h, &electionv1.ObserveRequest{Name: name})
	o.wants(core.Token(token), "v")
	link.Cut()
	defer link.Heal() // the instance's own session is closed behind it
	asks := map[string]func() error{
		"leader": func() error {
			_, err := h.Leader(testContext(t), &electionv1.LeaderRequest{Name: name})
			return err
		},
		"contenders": func() error {
			_, err := h.Contenders(testContext(t), &electionv1.ContendersRequest{Name: name})
			return err
		},
		"list": func() error {
			_, err := h.List(testContext(t), &electionv1.ListRequest{})
			return err
		},
		"history": func() error {
			_, err := h.History(testContext(t), &electionv1.HistoryRequest{Name: name})
			return err
		},
		"force": func() error {
			_, err := h.ForceResign(testContext(t), &electionv1.ForceResignRequest{Name: name, Reason: "test"})
			return err
		},
		"proclaim": func() error {
			_, err := h.Proclaim(c.ctx, &electionv1.ProclaimRequest{SessionId: c.id, Name: name, Token: token, Value: "new"})
			return err
		},
	}
	type said struct {
		what string
		err  error
	}
	answers := make(chan said, len(asks))
	for what, ask := range asks {
		go func() { answers <- said{what, ask()} }()
	}
	for range asks {
		a := <-answers
		if a.what == "proclaim" { // it may have been sent
			want(t, a.err, codes.Unknown, "outcome_unknown")
		} else {
			want(t, a.err, codes.Unavailable, "no_quorum")
		}
	}
	err := h.resign(c, name, token)
	if reason := recipe.Reason(err); reason != "outcome_unknown" && reason != "no_quorum" {
		t.Errorf("the resignation says %v", err)
	}
	link.Heal()
	if err := h.resign(c, name, token); err != nil { // unless the first one went on
		want(t, err, codes.FailedPrecondition, "not_owner")
	}
	for resp := o.next(); !resp.GetVacant(); resp = o.next() { // the new value may have come through
		if resp.GetToken() != token || resp.GetValue() != "new" {
			t.Fatalf("it tells %v", resp)
		}
	}
	o.cancel()
}
