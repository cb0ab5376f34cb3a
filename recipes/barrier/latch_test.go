package barrier_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/core/recipe"
	barrierrecipe "github.com/conclavehq/conclave/recipes/barrier"
)

// An operation counts once, at whatever host, and the latch opens for all who
// wait.
func TestLatch(t *testing.T) {
	t.Parallel()
	one, other, name := startHost(t), startHost(t), nameOf(t)
	count := func(h *host, operation string) int32 {
		return must[*barrierv1.CountDownResponse](t)(h.CountDown(within(t), &barrierv1.CountDownRequest{Name: name, Count: 2, Operation: operation})).GetRemaining()
	}
	if left := []int32{count(one, "a"), count(other, "a")}; left[0] != 1 || left[1] != 1 {
		t.Errorf("left: %v", left)
	}
	_, err := one.Await(within(t), &barrierv1.AwaitRequest{Name: name, Count: 2, Wait: durationpb.New(0)})
	want(t, err, codes.Aborted, "not_ready")
	if !strings.Contains(err.Error(), "1 left") {
		t.Errorf("it says %v", err)
	}
	_, err = one.Await(within(t), &barrierv1.AwaitRequest{Name: name, Count: 3})
	want(t, err, codes.Aborted, "conflict")
	waiting := background(func() (*barrierv1.AwaitResponse, error) {
		return one.Await(within(t), &barrierv1.AwaitRequest{Name: name, Count: 2})
	})
	_, err = other.Reset(within(t), &barrierv1.ResetRequest{Name: name, Count: 2})
	want(t, err, codes.Aborted, "conflict")
	if left := count(other, "b"); left != 0 {
		t.Errorf("%d left", left)
	}
	if got := <-waiting; got.err != nil {
		t.Error(got.err)
	}
	must[*barrierv1.ResetResponse](t)(other.Reset(within(t), &barrierv1.ResetRequest{Name: name, Count: 2}))
	if left := count(one, "b"); left != 1 {
		t.Errorf("%d left after a reset", left)
	}
}

func TestListByPages(t *testing.T) {
	t.Parallel()
	h, name := startHost(t), nameOf(t)
	for _, n := range []string{"a", "b", "c"} {
		must[*barrierv1.CountDownResponse](t)(h.CountDown(within(t), &barrierv1.CountDownRequest{Name: name + "/" + n, Count: 2, Operation: "x"}))
	}
	var names []string
	for req := (&barrierv1.ListRequest{Prefix: name, PageSize: 1}); ; {
		page := must[*barrierv1.ListResponse](t)(h.List(within(t), req))
		for _, b := range page.GetBarriers() {
			if b.GetKind() != barrierv1.Kind_KIND_LATCH || b.GetParties() != 2 || b.GetThere() != 1 || b.GetPhase() != barrierv1.Phase_PHASE_GATHERING {
				t.Errorf("it lists %v", b)
			}
			names = append(names, strings.TrimPrefix(b.GetName(), name+"/"))
		}
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if got := strings.Join(names, ""); got != "abc" {
		t.Errorf("it lists %q", got)
	}
}

// What is outside the limits is refused with the field's name, and nothing is
// written.
func TestBadInput(t *testing.T) {
	t.Parallel()
	h, c := startHost(t), open(t, "caller")
	long, ctx := strings.Repeat("n", 257), within(t)
	for what, call := range map[string]func() error{
		"invalid_name: name: is empty": func() error {
			return second(h.Hold(c.ctx, &barrierv1.HoldRequest{SessionId: c.id}))
		},
		"invalid_name: name: has an empty": func() error {
			return second(h.Wait(ctx, &barrierv1.WaitRequest{Name: "bad//x"}))
		},
		"invalid_namespace: namespace": func() error {
			return second(h.Hold(c.ctx, &barrierv1.HoldRequest{SessionId: c.id, Name: "bad", Namespace: "other"}))
		},
		"invalid_purpose: purpose": func() error {
			return second(h.Hold(c.ctx, &barrierv1.HoldRequest{SessionId: c.id, Name: "bad", Purpose: long}))
		},
		"invalid_session_id": func() error {
			return second(h.Enter(ctx, &barrierv1.EnterRequest{Name: "bad", Parties: 1}))
		},
		"invalid_parties: parties: 0": func() error {
			return second(h.Enter(c.ctx, &barrierv1.EnterRequest{SessionId: c.id, Name: "bad"}))
		},
		"invalid_parties: parties: 10001": func() error {
			return second(h.Cycle(c.ctx, &barrierv1.CycleRequest{SessionId: c.id, Name: "bad", Parties: 10001}))
		},
		"invalid_wait: wait": func() error {
			return second(h.Enter(c.ctx, &barrierv1.EnterRequest{SessionId: c.id, Name: "bad", Parties: 1, Wait: durationpb.New(-1)}))
		},
		"invalid_operation: operation: has": func() error {
			return second(h.Cycle(c.ctx, &barrierv1.CycleRequest{SessionId: c.id, Name: "bad", Parties: 1, Operation: long}))
		},
		"invalid_operation: operation: is empty": func() error {
			return second(h.CountDown(ctx, &barrierv1.CountDownRequest{Name: "bad", Count: 1}))
		},
		"invalid_count: count: -1": func() error {
			return second(h.Await(ctx, &barrierv1.AwaitRequest{Name: "bad", Count: -1}))
		},
		"invalid_count: count: 0": func() error {
			return second(h.Reset(ctx, &barrierv1.ResetRequest{Name: "bad"}))
		},
		"invalid_token: token: 0": func() error {
			return second(h.Leave(c.ctx, &barrierv1.LeaveRequest{SessionId: c.id, Name: "bad"}))
		},
		"invalid_token: token: -5": func() error {
			return second(h.Release(c.ctx, &barrierv1.ReleaseRequest{SessionId: c.id, Name: "bad", Token: -5}))
		},
		"invalid_page_size: page_size": func() error {
			return second(h.List(ctx, &barrierv1.ListRequest{PageSize: -1}))
		},
		"invalid_page_token: page_token": func() error {
			return second(h.List(ctx, &barrierv1.ListRequest{PageToken: "%"}))
		},
		"invalid_prefix: prefix": func() error {
			return second(h.List(ctx, &barrierv1.ListRequest{Prefix: "\n"}))
		},
	} {
		err := call()
		reason, _, _ := strings.Cut(what, ":")
		if want(t, err, codes.InvalidArgument, reason); !strings.Contains(err.Error(), what) {
			t.Errorf("it says %v, want %q", err, what)
		}
	}
	if kvs := etcd.Dump(t, "/conclave/default/barrier/bad"); len(kvs) > 0 {
		t.Errorf("%s stands", kvs[0].Key)
	}
	if _, err := (barrierrecipe.Recipe{}).Open(ctx, recipe.NewEnv("other", etcd.Client(t), nil, nil), nil); err == nil {
		t.Error("it runs under another name")
	}
}

func second[T any](_ T, err error) error { return err }
