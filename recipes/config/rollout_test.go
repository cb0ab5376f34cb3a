package config_test

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	configv1 "github.com/conclavehq/conclave/api/conclave/config/v1"
	"github.com/conclavehq/conclave/config"
	"github.com/conclavehq/conclave/core"
)

func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(patience); !ok(); etcd.Revision(tb) {
		if time.Now().After(deadline) {
			tb.Fatalf("never: %s", what)
		}
	}
}

func (h *host) status(tb testing.TB, key string) *configv1.StatusResponse {
	tb.Helper()
	return must[*configv1.StatusResponse](tb)(h.Status(within(tb), &configv1.StatusRequest{Key: key}))
}

// A rollout from its start to its promotion, and one that an instance refuses, as
// an operator sees them.
func TestRollout(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	first := h.set(t, k, `"one"`)
	s := must[*core.Session](t)(core.NewSession(within(t), etcd.Client(t)))
	t.Cleanup(func() { _ = s.Close() })
	for _, zone := range []string{"a", "b"} {
		v := must[*config.Variable[string]](t)(config.Open[string](within(t), s.Client(), k, config.WithInstance(s, zone+"-1", map[string]string{"zone": zone})))
		t.Cleanup(func() { _ = v.Close() })
	}
	eventually(t, "both say what they run", func() bool { return len(h.status(t, k).GetInstances()) == 2 })
	if st := h.status(t, k); st.GetRevision() != first || st.GetRollout() != nil || st.GetInstances()[0].GetRevision() != first {
		t.Errorf("before: %v", st)
	}

	start := func(value string, labels map[string]string) int64 {
		return must[*configv1.StartRolloutResponse](t)(h.StartRollout(within(t), &configv1.StartRolloutRequest{Key: k, Value: value, Percent: 100,
			Labels: labels, Message: "try it", Author: "ada"})).GetRevision()
	}
	rev := start(`"two"`, map[string]string{"zone": "a"})
	eventually(t, "one tries it", func() bool {
		all := h.status(t, k).GetInstances()
		return all[0].GetCandidate() && all[0].GetRevision() == rev && !all[1].GetCandidate()
	})
	if r := h.status(t, k).GetRollout(); r.GetState() != "running" || r.GetAuthor() != "ada" || r.GetMessage() != "try it" || r.GetLabels()["zone"] != "a" {
		t.Errorf("rollout %v", r)
	}
	must[*configv1.ScopeRolloutResponse](t)(h.ScopeRollout(within(t), &configv1.ScopeRolloutRequest{Key: k, Percent: 100}))
	eventually(t, "both try it", func() bool { return h.status(t, k).GetInstances()[1].GetCandidate() })
	last := must[*configv1.PromoteRolloutResponse](t)(h.PromoteRollout(within(t), &configv1.PromoteRolloutRequest{Key: k, Revision: rev})).GetRevision()
	eventually(t, "both run it", func() bool {
		all := h.status(t, k).GetInstances()
		return all[0].GetRevision() == last && all[1].GetRevision() == last && !all[0].GetCandidate()
	})
	if v := h.get(t, k, 0); v.GetValue() != `"two"` || v.GetMessage() != "try it" || v.GetNumber() != 2 {
		t.Errorf("promoted: %v", v)
	}

	start("no JSON", nil)
	eventually(t, "it is refused", func() bool { return h.status(t, k).GetRollout().GetState() == "refused" })
	if r := h.status(t, k).GetRollout(); r.GetRefusedBy() == "" || r.GetReason() == "" {
		t.Errorf("rollout %v", r)
	}
	_, err := h.PromoteRollout(within(t), &configv1.PromoteRolloutRequest{Key: k})
	want(t, err, codes.FailedPrecondition, "no_rollout", "")

	start(`"three"`, nil)
	must[*configv1.AbortRolloutResponse](t)(h.AbortRollout(within(t), &configv1.AbortRolloutRequest{Key: k, Reason: "not today", Author: "bob"}))
	if r := h.status(t, k).GetRollout(); r.GetState() != "refused" || r.GetRefusedBy() != "bob" || r.GetReason() != "not today" {
		t.Errorf("aborted: %v", r)
	}
	start(`"three"`, nil)
	h.set(t, k, `"four"`)
	if r := h.status(t, k).GetRollout(); r.GetState() != "superseded" {
		t.Errorf("after a publication: %v", r)
	}
}

func TestRolloutIsCheckedAgainstTheSchema(t *testing.T) {
	h, k := startHost(t, etcd.Client(t)), key(t)
	h.setSchema(t, k, `{"type":"integer"}`)
	_, err := h.StartRollout(within(t), &configv1.StartRolloutRequest{Key: k, Value: "x", Percent: 10})
	want(t, err, codes.InvalidArgument, "invalid_value", "is not JSON")
	must[*configv1.StartRolloutResponse](t)(h.StartRollout(within(t), &configv1.StartRolloutRequest{Key: k, Value: "5", Percent: 10}))
	h.setSchema(t, k, `{"type":"string"}`)
	_, err = h.PromoteRollout(within(t), &configv1.PromoteRolloutRequest{Key: k})
	want(t, err, codes.InvalidArgument, "invalid_value", "does not pass the schema")
	if st := h.status(t, k); st.GetRevision() != 0 || st.GetRollout().GetState() != "running" {
		t.Errorf("status %v", st)
	}
}

func TestInvalidRollouts(t *testing.T) {
	h, ctx, k := startHost(t, etcd.Client(t)), within(t), key(t)
	start := func(req *configv1.StartRolloutRequest) error { _, err := h.StartRollout(ctx, req); return err }
	for _, tt := range []struct {
		reason, text string
		err          error
	}{
		{"invalid_percent", "more than 0 and at most 100", start(&configv1.StartRolloutRequest{Key: k, Value: "x"})},
		{"invalid_percent", "more than 0 and at most 100", start(&configv1.StartRolloutRequest{Key: k, Value: "x", Percent: 101})},
		{"invalid_labels", "empty", start(&configv1.StartRolloutRequest{Key: k, Value: "x", Percent: 1, Labels: map[string]string{"": "x"}})},
		{"invalid_value", "empty", start(&configv1.StartRolloutRequest{Key: k, Percent: 1})},
		{"invalid_key", "empty", start(&configv1.StartRolloutRequest{Value: "x", Percent: 1})},
		{"invalid_revision", "negative", second(h.PromoteRollout(ctx, &configv1.PromoteRolloutRequest{Key: k, Revision: -1}))},
		{"invalid_key", "empty", second(h.Status(ctx, &configv1.StatusRequest{}))},
		{"invalid_reason", "1024", second(h.AbortRollout(ctx, &configv1.AbortRolloutRequest{Key: k, Reason: string(make([]byte, 1025))}))},
	} {
		want(t, tt.err, codes.InvalidArgument, tt.reason, tt.text)
	}
	for _, err := range []error{
		second(h.ScopeRollout(ctx, &configv1.ScopeRolloutRequest{Key: k, Percent: 5})),
		second(h.PromoteRollout(ctx, &configv1.PromoteRolloutRequest{Key: k})),
		second(h.AbortRollout(ctx, &configv1.AbortRolloutRequest{Key: k})),
	} {
		want(t, err, codes.FailedPrecondition, "no_rollout", "")
	}
}
