package election_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core/recipe"
	electionrecipe "github.com/conclavehq/conclave/recipes/election"
)

// TestBadInput: what is outside the limits is refused with the field's name, and
// nothing is written.
func TestBadInput(t *testing.T) {
	t.Parallel()
	h, c := startHost(t, etcd.Client(t), nil), open(t, "caller", "default")
	cases := []struct {
		what, reason string
		change       func(*electionv1.CampaignRequest)
	}{
		{"no name", "invalid_name", func(r *electionv1.CampaignRequest) { r.Name = "" }},
		{"an empty segment", "invalid_name", func(r *electionv1.CampaignRequest) { r.Name = "a//b" }},
		{"a dot", "invalid_name", func(r *electionv1.CampaignRequest) { r.Name = "a/.." }},
		{"nine segments", "invalid_name", func(r *electionv1.CampaignRequest) { r.Name = "1/2/3/4/5/6/7/8/9" }},
		{"a long segment", "invalid_name", func(r *electionv1.CampaignRequest) { r.Name = strings.Repeat("n", 256) }},
		{"a control character", "invalid_name", func(r *electionv1.CampaignRequest) { r.Name = "a\nb" }},
		{"a namespace with a slash", "invalid_namespace", func(r *electionv1.CampaignRequest) { r.Namespace = "a/b" }},
		{"another namespace", "invalid_namespace", func(r *electionv1.CampaignRequest) { r.Namespace = "other" }},
		{"a long value", "invalid_value", func(r *electionv1.CampaignRequest) { r.Value = strings.Repeat("v", 4097) }},
		{"negative seats", "invalid_seats", func(r *electionv1.CampaignRequest) { r.Seats = -1 }},
		{"too many seats", "invalid_seats", func(r *electionv1.CampaignRequest) { r.Seats = 1001 }},
		{"a negative wait", "invalid_wait", func(r *electionv1.CampaignRequest) { r.Wait = durationpb.New(-1) }},
		{"a long purpose", "invalid_purpose", func(r *electionv1.CampaignRequest) { r.Purpose = strings.Repeat("p", 257) }},
		{"a long grace", "invalid_grace", func(r *electionv1.CampaignRequest) { r.Grace = durationpb.New(11e9) }},
		{"a negative grace", "invalid_grace", func(r *electionv1.CampaignRequest) { r.Grace = durationpb.New(-1) }},
		{"a large priority", "invalid_priority", func(r *electionv1.CampaignRequest) { r.Priority = 128 }},
		{"a long zone", "invalid_zone", func(r *electionv1.CampaignRequest) { r.Zone = strings.Repeat("z", 65) }},
		{"many zones", "invalid_preferred_zones", func(r *electionv1.CampaignRequest) { r.PreferredZones = make([]string, 16) }},
	}
	for _, bad := range cases {
		for what, wait := range map[string]*durationpb.Duration{"at once": durationpb.New(0), "at last": nil} {
			t.Run(bad.what+" "+what, func(t *testing.T) {
				req := &electionv1.CampaignRequest{SessionId: c.id, Name: "bad-input", Wait: wait}
				bad.change(req)
				_, err := h.Campaign(c.ctx, req)
				want(t, err, codes.InvalidArgument, bad.reason)
				field := strings.ReplaceAll(strings.TrimPrefix(bad.reason, "invalid_"), "_", " ")
				if text := err.Error(); !strings.Contains(strings.ReplaceAll(text, "_", " "), strings.ReplaceAll(bad.reason, "_", " ")+": "+field) {
					t.Errorf("it says %q", text)
				}
			})
		}
	}
	if kvs := etcd.Dump(t, "/conclave/default/election/bad-input/"); len(kvs) > 0 {
		t.Errorf("%s stands", kvs[0].Key)
	}
}

func TestBadInputOfOthers(t *testing.T) {
	t.Parallel()
	h, c := startHost(t, etcd.Client(t), nil), open(t, "caller", "default")
	ctx := testContext(t)
	check := func(what, reason string, call func() error) {
		t.Helper()
		t.Run(what, func(t *testing.T) { want(t, call(), codes.InvalidArgument, reason) })
	}
	check("no session", "invalid_session_id", func() error {
		_, err := h.Campaign(ctx, &electionv1.CampaignRequest{Name: "n"})
		return err
	})
	check("resign without a session", "invalid_session_id", func() error {
		_, err := h.Resign(ctx, &electionv1.ResignRequest{Name: "n", Token: 1})
		return err
	})
	check("resign without a token", "invalid_token", func() error { return h.resign(c, "n", 0) })
	check("resign of no name", "invalid_name", func() error { return h.resign(c, "", 1) })
	check("proclaim without a token", "invalid_token", func() error {
		_, err := h.Proclaim(c.ctx, &electionv1.ProclaimRequest{SessionId: c.id, Name: "n"})
		return err
	})
	check("leader of no name", "invalid_name", func() error {
		_, err := h.Leader(ctx, &electionv1.LeaderRequest{})
		return err
	})
	check("contenders of a bad name", "invalid_name", func() error {
		_, err := h.Contenders(ctx, &electionv1.ContendersRequest{Name: "/"})
		return err
	})
	check("force without a reason", "invalid_reason", func() error {
		_, err := h.ForceResign(ctx, &electionv1.ForceResignRequest{Name: "n"})
		return err
	})
	check("force with a long reason", "invalid_reason", func() error {
		_, err := h.ForceResign(ctx, &electionv1.ForceResignRequest{Name: "n", Reason: strings.Repeat("r", 257)})
		return err
	})
	check("force by a long name", "invalid_by", func() error {
		_, err := h.ForceResign(ctx, &electionv1.ForceResignRequest{Name: "n", Reason: "r", By: strings.Repeat("b", 256)})
		return err
	})
	check("force with a negative token", "invalid_token", func() error {
		_, err := h.ForceResign(ctx, &electionv1.ForceResignRequest{Name: "n", Reason: "r", Token: -1})
		return err
	})
	check("transfer to a long name", "invalid_to", func() error {
		_, err := h.Transfer(ctx, &electionv1.TransferRequest{Name: "n", To: strings.Repeat("t", 256)})
		return err
	})
	check("transfer in a bad namespace", "invalid_namespace", func() error {
		_, err := h.Transfer(ctx, &electionv1.TransferRequest{Namespace: "..", Name: "n", To: "t"})
		return err
	})
	check("history with a bad limit", "invalid_limit", func() error {
		_, err := h.History(ctx, &electionv1.HistoryRequest{Name: "n", Limit: 1001})
		return err
	})
	check("list with a bad prefix", "invalid_prefix", func() error {
		_, err := h.List(ctx, &electionv1.ListRequest{Prefix: "\n"})
		return err
	})
	check("list with a bad page token", "invalid_page_token", func() error {
		_, err := h.List(ctx, &electionv1.ListRequest{PageToken: "%%%"})
		return err
	})
	check("watch of a name and a prefix", "invalid_prefix", func() error {
		stream, err := h.Watch(ctx, &electionv1.WatchRequest{Name: "n", Prefix: "p"})
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	})
	for reason, req := range map[string]*electionv1.ObserveRequest{
		"invalid_name":           {},
		"invalid_seats":          {Name: "n", Seats: 1001},
		"invalid_after_revision": {Name: "n", AfterRevision: -1},
	} {
		check("observe with "+reason, reason, func() error {
			stream, err := h.Observe(ctx, req)
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		})
	}
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	for _, bad := range []*electionv1.Config{{HistoryEndings: -1}, {HistoryEndings: 1001}, {HistoryAge: durationpb.New(1)}} {
		if err := (electionrecipe.Recipe{}).Validate(bad); err == nil || !strings.Contains(err.Error(), "history_") {
			t.Errorf("%v is accepted: %v", bad, err)
		}
	}
	if err := (electionrecipe.Recipe{}).Validate(nil); err != nil {
		t.Error(err)
	}
	if _, err := (electionrecipe.Recipe{}).Open(testContext(t), recipe.NewEnv("other", etcd.Client(t), nil, nil), nil); err == nil {
		t.Error("it runs under another name")
	}
}
