package queue_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/queue"
)

func TestBadInputWritesNothing(t *testing.T) {
	s, name := session(t), etcd.Prefix(t)
	before := etcd.Revision(t)
	for what, c := range map[string]struct {
		says string
		name string
		opts []queue.Option
		put  []queue.PutOption
		v    any
	}{
		"a name with a dot segment": {says: "name", name: ".."},
		"no attempts":               {says: "max attempts: 0", opts: []queue.Option{queue.WithMaxAttempts(0)}},
		"a short visibility":        {says: "visibility: 1ms", opts: []queue.Option{queue.WithVisibility(time.Millisecond)}},
		"no capacity":               {says: "capacity: 0", opts: []queue.Option{queue.WithCapacity(0)}},
		"no codec":                  {says: "codec: is nil", opts: []queue.Option{queue.WithCodec(nil)}},
		"no concurrency":            {says: "concurrency: 0", opts: []queue.Option{queue.WithConcurrency(0)}},
		"a short window":            {says: "dedup_window: 1s", opts: []queue.Option{queue.WithDedupWindow(time.Second)}},
		"a negative delay":          {says: "delay: -1s", put: []queue.PutOption{queue.Delay(-time.Second)}},
		"too urgent":                {says: "priority: 128", put: []queue.PutOption{queue.Priority(128)}},
		"an empty dedup id":         {says: "dedup_id: is empty", put: []queue.PutOption{queue.DedupID("")}},
		"a long dedup id":           {says: "dedup_id: has 256 bytes", put: []queue.PutOption{queue.DedupID(strings.Repeat("x", 256))}},
		"an empty group":            {says: "group: is empty", put: []queue.PutOption{queue.Group("")}},
		"a delayed group":           {says: "delay", put: []queue.PutOption{queue.Group("g"), queue.Delay(time.Second)}},
		"a large value":             {says: "the limit is 262144", v: strings.Repeat("x", queue.MaxPayload)},
		"a value of no codec":       {says: "value", v: func() {}},
	} {
		n := name
		if c.name != "" {
			n = c.name
		}
		q := queue.New[any](s, n, c.opts...)
		_, err := q.Enqueue(within(t), c.v, c.put...)
		if !errors.Is(err, core.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", what, err)
		}
		if _, err := queue.EnqueueOp(q, c.v, c.put...); !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s, as an operation: %v", what, err)
		}
		if len(c.opts) == 0 && c.name == "" {
			continue
		}
		if _, err := q.TryDequeue(within(t)); !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s, TryDequeue: %v", what, err)
		}
		if _, err := q.Stats(within(t)); !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s, Stats: %v", what, err)
		}
	}
	if _, err := queue.New[any](s, name).DeadLetters().Enqueue(within(t), 1); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("into dead letters: %v", err)
	}
	if after := etcd.Revision(t); after != before {
		t.Errorf("%d writes", after-before)
	}
}

func TestBadArgumentsOfADelivery(t *testing.T) {
	q := queue.New[string](session(t), etcd.Prefix(t))
	put(t, q, "a")
	i := take(t, q)
	for what, err := range map[string]error{
		"a negative nack":      i.Nack(within(t), -time.Second),
		"no extension":         i.Extend(within(t), 0),
		"a long extension":     i.Extend(within(t), 13*time.Hour),
		"too many effects":     i.Ack(within(t), tooMany()...),
		"a batch of none":      second(q.DequeueBatch(within(t), 0)),
		"a look at none":       second(q.Peek(within(t), 0)),
		"requeue of the queue": second(q.Requeue(within(t))),
		"an id that is a path": second(q.Delivered(within(t), "a/b", 1)),
	} {
		if !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	ack(t, i)
}

func second[T any](_ T, err error) error { return err }

func TestAPayloadThatTheCodecCannotRead(t *testing.T) {
	s, name := session(t), etcd.Prefix(t)
	put(t, queue.New[string](s, name, queue.WithCodec(core.Text{})), "not JSON")
	numbers := queue.New[int](s, name)
	if _, err := numbers.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("TryDequeue: %v", err)
	}
	dead, err := numbers.DeadLetters().Peek(within(t), 1)
	if err != nil || len(dead) != 1 || !errors.Is(dead[0].Err, queue.ErrPayload) || string(dead[0].Payload) != "not JSON" ||
		!strings.Contains(dead[0].Reason, "cannot be decoded as json") {
		t.Errorf("dead letters %+v, %v", dead, err)
	}
}

func tooMany() []clientv3.Op {
	ops := make([]clientv3.Op, 101)
	for n := range ops {
		ops[n] = clientv3.OpPut(fmt.Sprint("/too-many/", n), "")
	}
	return ops
}
