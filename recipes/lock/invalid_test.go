package lock_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
)

// TestBadInput: what is outside the limits is refused with the field's name, and
// nothing is written.
func TestBadInput(t *testing.T) {
	t.Parallel()
	h, c := startHost(t, etcd.Client(t), nil), open(t, "caller", "default")
	req := func(change func(*lockv1.AcquireRequest)) *lockv1.AcquireRequest {
		r := &lockv1.AcquireRequest{SessionId: c.id, Name: "bad-input", Wait: durationpb.New(0)}
		change(r)
		return r
	}
	cases := []struct {
		what, reason string
		req          *lockv1.AcquireRequest
	}{
		{"no name", "invalid_name", req(func(r *lockv1.AcquireRequest) { r.Name = "" })},
		{"an empty segment", "invalid_name", req(func(r *lockv1.AcquireRequest) { r.Name = "a//b" })},
		{"a dot", "invalid_name", req(func(r *lockv1.AcquireRequest) { r.Name = "a/.." })},
		{"nine segments", "invalid_name", req(func(r *lockv1.AcquireRequest) { r.Name = "1/2/3/4/5/6/7/8/9" })},
		{"a long segment", "invalid_name", req(func(r *lockv1.AcquireRequest) { r.Name = strings.Repeat("n", 256) })},
		{"a control character", "invalid_name", req(func(r *lockv1.AcquireRequest) { r.Name = "a\nb" })},
		{"a namespace with a slash", "invalid_namespace", req(func(r *lockv1.AcquireRequest) { r.Namespace = "a/b" })},
		{"another namespace", "invalid_namespace", req(func(r *lockv1.AcquireRequest) { r.Namespace = "other" })},
		{"an unknown mode", "invalid_mode", req(func(r *lockv1.AcquireRequest) { r.Mode = "exclusive" })},
		{"permits without a limit", "invalid_limit", req(func(r *lockv1.AcquireRequest) { r.Mode = "permits" })},
		{"a limit for a writer", "invalid_limit", req(func(r *lockv1.AcquireRequest) { r.Mode, r.Limit = "write", 2 })},
		{"a negative limit", "invalid_limit", req(func(r *lockv1.AcquireRequest) { r.Limit = -1 })},
		{"a huge limit", "invalid_limit", req(func(r *lockv1.AcquireRequest) { r.Limit = 1_000_001 })},
		{"permits for a reader", "invalid_permits", req(func(r *lockv1.AcquireRequest) { r.Mode, r.Permits = "read", 1 })},
		{"more permits than there are", "invalid_permits", req(func(r *lockv1.AcquireRequest) { r.Permits, r.Limit = 4, 3 })},
		{"negative permits", "invalid_permits", req(func(r *lockv1.AcquireRequest) { r.Permits, r.Limit = -1, 3 })},
		{"a negative wait", "invalid_wait", req(func(r *lockv1.AcquireRequest) { r.Wait = durationpb.New(-1) })},
		{"a long purpose", "invalid_purpose", req(func(r *lockv1.AcquireRequest) { r.Purpose = strings.Repeat("p", 257) })},
		{"a long grace", "invalid_grace", req(func(r *lockv1.AcquireRequest) { r.Grace = durationpb.New(11e9) })},
		{"a negative grace", "invalid_grace", req(func(r *lockv1.AcquireRequest) { r.Grace = durationpb.New(-1) })},
		{"a large priority", "invalid_priority", req(func(r *lockv1.AcquireRequest) { r.Priority = 128 })},
	}
	for _, bad := range cases {
		t.Run(bad.what, func(t *testing.T) {
			_, err := h.Acquire(c.ctx, bad.req)
			want(t, err, codes.InvalidArgument, bad.reason)
			field := strings.TrimPrefix(bad.reason, "invalid_")
			if !strings.Contains(err.Error(), bad.reason+": "+field) {
				t.Errorf("it says %q", err)
			}
		})
	}
	if kvs := etcd.Dump(t, "/conclave/default/lock/bad-input/"); len(kvs) > 0 {
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
		_, err := h.Acquire(ctx, &lockv1.AcquireRequest{Name: "n"})
		return err
	})
	check("release without a session", "invalid_session_id", func() error {
		_, err := h.Release(ctx, &lockv1.ReleaseRequest{Name: "n", Token: 1})
		return err
	})
	check("release without a token", "invalid_token", func() error { return h.release(c, "n", 0) })
	check("release of no name", "invalid_name", func() error { return h.release(c, "", 1) })
	check("try in an unknown mode", "invalid_mode", func() error {
		_, err := h.TryAcquire(c.ctx, &lockv1.TryAcquireRequest{SessionId: c.id, Name: "n", Mode: "rw"})
		return err
	})
	check("force without a reason", "invalid_reason", func() error {
		_, err := h.ForceRelease(ctx, &lockv1.ForceReleaseRequest{Name: "n"})
		return err
	})
	check("force with a long reason", "invalid_reason", func() error {
		_, err := h.ForceRelease(ctx, &lockv1.ForceReleaseRequest{Name: "n", Reason: strings.Repeat("r", 257)})
		return err
	})
	check("force by a long name", "invalid_by", func() error {
		_, err := h.ForceRelease(ctx, &lockv1.ForceReleaseRequest{Name: "n", Reason: "r", By: strings.Repeat("b", 256)})
		return err
	})
	check("force with a negative token", "invalid_token", func() error {
		_, err := h.ForceRelease(ctx, &lockv1.ForceReleaseRequest{Name: "n", Reason: "r", Token: -1})
		return err
	})
	check("why of a bad name", "invalid_name", func() error {
		_, err := h.Why(ctx, &lockv1.WhyRequest{Name: "/"})
		return err
	})
	check("history with a bad limit", "invalid_limit", func() error {
		_, err := h.History(ctx, &lockv1.HistoryRequest{Name: "n", Limit: 1001})
		return err
	})
	check("list with a bad prefix", "invalid_prefix", func() error {
		_, err := h.List(ctx, &lockv1.ListRequest{Prefix: "\n"})
		return err
	})
	check("list in a bad namespace", "invalid_namespace", func() error {
		_, err := h.List(ctx, &lockv1.ListRequest{Namespace: ".."})
		return err
	})
	check("watch of a name and a prefix", "invalid_prefix", func() error {
		stream, err := h.Watch(ctx, &lockv1.WatchRequest{Name: "n", Prefix: "p"})
		if err != nil {
			return err
		}
		_, err = stream.Recv()
		return err
	})
}
