package queue_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core/recipe"
	queuerecipe "github.com/conclavehq/conclave/recipes/queue"
)

// What is outside the limits is refused with the field's name, and nothing is
// written.
func TestBadInput(t *testing.T) {
	t.Parallel()
	h, c := startHost(t), open(t, "caller")
	ctx := within(t)
	put := func(change func(*queuev1.EnqueueRequest)) func() error {
		return func() error {
			req := &queuev1.EnqueueRequest{Name: "bad", Items: []*queuev1.Put{{Value: "x"}}}
			change(req)
			return second(h.Enqueue(ctx, req))
		}
	}
	take := func(change func(*queuev1.DequeueRequest)) func() error {
		return func() error {
			req := &queuev1.DequeueRequest{SessionId: c.id, Name: "bad"}
			change(req)
			return second(h.Dequeue(c.ctx, req))
		}
	}
	nack := func(change func(*queuev1.NackRequest)) func() error {
		return func() error {
			req := &queuev1.NackRequest{SessionId: c.id, Name: "bad", Id: "x", Token: 1}
			change(req)
			return second(h.Nack(c.ctx, req))
		}
	}
	consume := func(req *queuev1.ConsumeRequest) func() error {
		return func() error {
			stream, err := h.Consume(c.ctx, req)
			if err != nil {
				return err
			}
			return second(stream.Recv())
		}
	}
	for _, bad := range []struct {
		what string
		call func() error
	}{
		{"invalid_name: name: is empty", put(func(r *queuev1.EnqueueRequest) { r.Name = "" })},
		{"invalid_namespace: namespace", put(func(r *queuev1.EnqueueRequest) { r.Namespace = "a/b" })},
		{"invalid_items: items: 0", put(func(r *queuev1.EnqueueRequest) { r.Items = nil })},
		{"invalid_items: items: 1001", put(func(r *queuev1.EnqueueRequest) { r.Items = make([]*queuev1.Put, 1001) })},
		{"invalid_value: value: has 262145 bytes", put(func(r *queuev1.EnqueueRequest) { r.Items[0].Value = strings.Repeat("v", 256<<10+1) })},
		{"invalid_value: value: is given together", put(func(r *queuev1.EnqueueRequest) { r.Items[0].Data = []byte("d") })},
		{"invalid_priority: priority: 128", put(func(r *queuev1.EnqueueRequest) { r.Items[0].Priority = 128 })},
		{"invalid_delay: delay", put(func(r *queuev1.EnqueueRequest) { r.Items[0].Delay = durationpb.New(-1) })},
		{"invalid_delay: delay", put(func(r *queuev1.EnqueueRequest) { r.Items[0].Delay = durationpb.New(9000 * time.Hour) })},
		{"invalid_group: group", put(func(r *queuev1.EnqueueRequest) { r.Items[0].Group = strings.Repeat("g", 256) })},
		{"invalid_dedup_id: dedup", put(func(r *queuev1.EnqueueRequest) { r.Items[0].DedupId = strings.Repeat("d", 256) })},
		{"invalid_dedup_id: dedup_id: is for one", put(func(r *queuev1.EnqueueRequest) {
			r.Items = []*queuev1.Put{{Value: "a", DedupId: "d"}, {Value: "b"}}
		})},
		{"invalid_capacity: capacity: -1", put(func(r *queuev1.EnqueueRequest) { r.Capacity = -1 })},
		{"invalid_dedup_window: dedup", put(func(r *queuev1.EnqueueRequest) { r.DedupWindow = durationpb.New(time.Second) })},
		{"invalid_wait: wait", put(func(r *queuev1.EnqueueRequest) { r.Wait = durationpb.New(-1) })},
		{"invalid_session_id", func() error { return second(h.Dequeue(ctx, &queuev1.DequeueRequest{Name: "bad"})) }},
		{"invalid_wait: wait", take(func(r *queuev1.DequeueRequest) { r.Wait = durationpb.New(-1) })},
		{"invalid_max_items: max_items: 1001", take(func(r *queuev1.DequeueRequest) { r.MaxItems = 1001 })},
		{"invalid_visibility: visibility", take(func(r *queuev1.DequeueRequest) { r.Visibility = durationpb.New(time.Millisecond) })},
		{"invalid_visibility: visibility: is 0", take(func(r *queuev1.DequeueRequest) { r.Visibility = durationpb.New(0) })},
		{"invalid_max_attempts: max", take(func(r *queuev1.DequeueRequest) { r.MaxAttempts = -1 })},
		{"invalid_credits: credits: 1001", consume(&queuev1.ConsumeRequest{SessionId: c.id, Name: "bad", Credits: 1001})},
		{"invalid_name: name", consume(&queuev1.ConsumeRequest{SessionId: c.id, Name: "/"})},
		{"invalid_token: token: 0", nack(func(r *queuev1.NackRequest) { r.Token = 0 })},
		{"invalid_id: id", nack(func(r *queuev1.NackRequest) { r.Id = "a//b" })},
		{"invalid_after: after", nack(func(r *queuev1.NackRequest) { r.After = durationpb.New(-1) })},
		{"invalid_after: after: is given together", nack(func(r *queuev1.NackRequest) { r.After, r.Reject = durationpb.New(1), true })},
		{"invalid_visibility: visibility: is missing", func() error {
			return second(h.Extend(c.ctx, &queuev1.ExtendRequest{SessionId: c.id, Name: "bad", Id: "x", Token: 1}))
		}},
		{"invalid_enqueue: enqueue: 101", func() error {
			return second(h.Ack(c.ctx, &queuev1.AckRequest{SessionId: c.id, Name: "bad", Id: "x", Token: 1, Enqueue: make([]*queuev1.Follow, 101)}))
		}},
		{"invalid_max_items: max_items: -1", func() error { return second(h.Peek(ctx, &queuev1.PeekRequest{Name: "bad", MaxItems: -1})) }},
		{"invalid_ids: ids: give either", func() error { return second(h.Drop(ctx, &queuev1.DropRequest{Name: "bad"})) }},
		{"invalid_ids: ids: give either", func() error {
			return second(h.Requeue(ctx, &queuev1.RequeueRequest{Name: "bad", Ids: []string{"x"}, All: true}))
		}},
		{"invalid_prefix: prefix", func() error { return second(h.List(ctx, &queuev1.ListRequest{Prefix: "\n"})) }},
	} {
		t.Run(bad.what, func(t *testing.T) {
			err := bad.call()
			reason, _, _ := strings.Cut(bad.what, ":")
			if want(t, err, codes.InvalidArgument, reason); !strings.Contains(err.Error(), bad.what) {
				t.Errorf("it says %v", err)
			}
		})
	}
	if kvs := etcd.Dump(t, "/conclave/default/queue/bad/"); len(kvs) > 0 {
		t.Errorf("%s stands", kvs[0].Key)
	}
	if _, err := (queuerecipe.Recipe{}).Open(ctx, recipe.NewEnv("other", etcd.Client(t), nil, nil), nil); err == nil {
		t.Error("it runs under another name")
	}
}
