package queue_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/queue"
)

// FuzzItem tries names, options and values: an item comes out as it went in, or
// the call says core.ErrInvalid. It never panics.
func FuzzItem(f *testing.F) {
	f.Add("orders", []byte("payload"), 0, int64(0), "", "")
	f.Add("a/b", []byte("{}\n\x00"), 127, int64(0), "dedup/1", "")
	f.Add("..", []byte(nil), -129, int64(-1), "\x00", "\xff")
	f.Add("größe", []byte{0xff, '\n', '"'}, -128, int64(0), "d", `g"\ü`)
	f.Fuzz(func(t *testing.T, name string, value []byte, priority int, delay int64, dedup, group string) {
		s := session(t, core.WithNamespace("fuzz"))
		q := queue.New[[]byte](s, name, queue.WithCodec(core.Bytes{}), queue.WithDedupWindow(2*time.Second))
		opts := []queue.PutOption{queue.Priority(priority), queue.Delay(time.Duration(delay))}
		if dedup != "" {
			opts = append(opts, queue.DedupID(dedup))
		}
		if group != "" {
			opts = append(opts, queue.Group(group))
		}
		id, err := q.Enqueue(within(t), value, opts...)
		if err != nil {
			if !errors.Is(err, core.ErrInvalid) {
				t.Errorf("Enqueue: %v", err)
			}
			return
		}
		if delay > 0 {
			return
		}
		i, err := q.TryDequeue(within(t))
		if errors.Is(err, queue.ErrEmpty) && dedup != "" {
			return // it was enqueued, and acked, by a run before
		}
		if err != nil {
			t.Fatalf("TryDequeue: %v", err)
		}
		if i.ID != id && dedup == "" || !bytes.Equal(i.Value, value) && dedup == "" || i.Group != group {
			t.Errorf("in %q %q, out %+v", id, value, i)
		}
		if err := i.Ack(within(t)); err != nil {
			t.Error(err)
		}
	})
}
