package watch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// pair is what one turn of the loop over Observe gives.
type pair struct {
	batch watch.Batch
	err   error
}

// observation runs the loop in a goroutine and lets a test take its pairs.
type observation struct {
	pairs chan pair
	end   context.CancelCauseFunc
	done  chan struct{}
}

func observe(t *testing.T, c *clientv3.Client, prefix string, opts watch.ObserveOptions) *observation {
	t.Helper()
	ctx, cancel := context.WithCancelCause(context.Background())
	o := &observation{pairs: make(chan pair), end: cancel, done: make(chan struct{})}
	left := make(chan struct{})
	go func() {
		defer close(o.done)
		defer close(o.pairs)
		for b, err := range watch.Observe(ctx, c, prefix, opts) {
			select {
			case o.pairs <- pair{b, err}:
			case <-left:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(left)
		cancel(nil)
		<-o.done
	})
	return o
}

func (o *observation) batch(t *testing.T) watch.Batch {
	t.Helper()
	p := receive(t, o.pairs)
	if p.err != nil {
		t.Fatal(p.err)
	}
	return p.batch
}

// shape prints a batch without its revisions.
func shape(b watch.Batch) string {
	var s []string
	for _, ev := range b.Events {
		_, name, _ := cutLast(string(ev.Kv.Key))
		if ev.Type == clientv3.EventTypeDelete {
			s = append(s, fmt.Sprintf("-%s was %s", name, ev.PrevKv.GetValue()))
			continue
		}
		line := fmt.Sprintf("%s=%s", name, ev.Kv.Value)
		if ev.PrevKv != nil {
			line += " was " + string(ev.PrevKv.Value)
		}
		s = append(s, line)
	}
	kind := ""
	if b.Snapshot {
		kind = "snapshot: "
	}
	if b.Resync != nil {
		kind = "resync: "
	}
	return kind + strings.Join(s, ", ")
}

func cutLast(key string) (dir, name string, ok bool) {
	i := strings.LastIndexByte(key, '/')
	return key[:i+1], key[i+1:], i >= 0
}

func wantShape(t *testing.T, b watch.Batch, want string) {
	t.Helper()
	if got := shape(b); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestObserveSnapshotThenChanges(t *testing.T) {
	c, p := direct(t), prefix(t)
	put(t, c, p+"b", "2")
	put(t, c, p+"a", "1")
	put(t, c, strings.TrimSuffix(p, "/")+"2/a", "another name")
	o := observe(t, c, p, watch.ObserveOptions{})
	first := o.batch(t)
	wantShape(t, first, "snapshot: a=1, b=2")

	put(t, c, strings.TrimSuffix(p, "/")+"2/a", "another name again")
	r := put(t, c, p+"a", "3")
	b := o.batch(t)
	wantShape(t, b, "a=3 was 1")
	if b.Revision != r || first.Revision >= r || b.Resync != nil || b.Snapshot {
		t.Errorf("after %d came %+v, written at %d", first.Revision, b, r)
	}
	del(t, c, p+"b")
	wantShape(t, o.batch(t), "-b was 2")
	put(t, c, p+"b", "4")
	wantShape(t, o.batch(t), "b=4")
}

func TestObserveEmptyPrefixBeginsWithSnapshot(t *testing.T) {
	o := observe(t, direct(t), prefix(t), watch.ObserveOptions{})
	if b := o.batch(t); !b.Snapshot || len(b.Events) != 0 || b.Revision == 0 {
		t.Errorf("got %+v", b)
	}
}

func TestObserveTransactionIsOneBatch(t *testing.T) {
	c, p := direct(t), prefix(t)
	put(t, c, p+"gone", "x")
	o := observe(t, c, p, watch.ObserveOptions{})
	o.batch(t)
	var ops []clientv3.Op
	for i := range 50 {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("%s%02d", p, i), strings.Repeat("x", 20_000)))
	}
	resp, err := c.Txn(ctxOf(t)).Then(append(ops, clientv3.OpDelete(p+"gone"))...).Commit()
	if err != nil {
		t.Fatal(err)
	}
	b := o.batch(t)
	if b.Revision != resp.Header.Revision || len(b.Events) != 51 {
		t.Errorf("%d events at %d, want 51 at %d", len(b.Events), b.Revision, resp.Header.Revision)
	}
}

func TestObserveEndsWithCause(t *testing.T) {
	cause := errors.New("enough")
	o := observe(t, direct(t), prefix(t), watch.ObserveOptions{})
	o.batch(t)
	o.end(cause)
	if p := receive(t, o.pairs); !errors.Is(p.err, cause) {
		t.Errorf("got %+v", p)
	}
	<-o.done

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	var errs []error
	for _, err := range watch.Observe(ctx, direct(t), prefix(t), watch.ObserveOptions{}) {
		errs = append(errs, err)
	}
	if !slices.Equal(errs, []error{cause}) {
		t.Errorf("with an ended context: %v", errs)
	}
}

func TestObserveBreakAndAgain(t *testing.T) {
	c, p := direct(t), prefix(t)
	put(t, c, p+"a", "1")
	seq := watch.Observe(ctxOf(t), c, p, watch.ObserveOptions{})
	for b, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		wantShape(t, b, "snapshot: a=1")
		break
	}
	put(t, c, p+"a", "2")
	turns := 0
	for b, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		if turns++; turns == 2 {
			wantShape(t, b, "a=3 was 2")
			break
		}
		wantShape(t, b, "snapshot: a=2")
		put(t, c, p+"a", "3")
	}
}

func TestObserveEndsWithClient(t *testing.T) {
	c := direct(t)
	o := observe(t, c, prefix(t), watch.ObserveOptions{})
	o.batch(t)
	c.Close()
	p := receive(t, o.pairs)
	if e, ok := errors.AsType[*watch.LostError](p.err); !ok || e.Reason != watch.Closed {
		t.Errorf("got %+v", p)
	}
	<-o.done
}

func TestObserveSlowLoopIsResynced(t *testing.T) {
	c, p := direct(t), prefix(t)
	put(t, c, p+"a", "0")
	put(t, c, p+"gone", "x")
	o := observe(t, c, p, watch.ObserveOptions{Buffer: 4096})
	st := newState()
	st.take(t, o.batch(t))
	del(t, c, p+"gone")
	// Whether the loop falls behind is a race that one of the rounds wins.
	for ctx := ctxOf(t); len(st.resyncs) == 0 && ctx.Err() == nil; {
		last := int64(0)
		for i := range 100 {
			last = put(t, c, p+"a", fmt.Sprint(i, strings.Repeat("x", 1000)))
		}
		for st.revision < last {
			st.take(t, o.batch(t))
		}
	}
	if len(st.resyncs) == 0 {
		t.Error("100 KB waited in a buffer of 4 KB")
	}
	st.wantList(t, c, p)
}
