package watch_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/watch"
)

// listener collects what a Watch reports.
type listener struct {
	events chan string
	lost   chan error
}

func listen(opts watch.Options) (*listener, watch.Options) {
	l := &listener{events: make(chan string, 10_000), lost: make(chan error, 10)}
	opts.Event = func(ev *clientv3.Event) { l.events <- show(ev) }
	opts.Lost = func(err error) { l.lost <- err }
	return l, opts
}

// show prints an event: what, key, value, revision.
func show(ev *clientv3.Event) string {
	return fmt.Sprintf("%s %s %q %d", ev.Type, ev.Kv.Key, ev.Kv.Value, ev.Kv.ModRevision)
}

func (l *listener) want(t *testing.T, want string) {
	t.Helper()
	if got := receive(t, l.events); got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
}

func openKey(t *testing.T, c *clientv3.Client, key string, opts watch.Options) *watch.Watch {
	t.Helper()
	w, err := watch.Key(ctxOf(t), c, key, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

func TestKeyFromNow(t *testing.T) {
	c, key := direct(t), prefix(t)+"a"
	before := put(t, c, key, "old")
	l, opts := listen(watch.Options{})
	w := openKey(t, c, key, opts)
	if w.Revision() < before {
		t.Errorf("registered at %d, before %d", w.Revision(), before)
	}
	put(t, c, key+"2", "another key")
	r1, r2 := put(t, c, key, "new"), del(t, c, key)
	l.want(t, fmt.Sprintf("PUT %s %q %d", key, "new", r1))
	l.want(t, fmt.Sprintf("DELETE %s %q %d", key, "", r2))
}

func TestKeyFromRevision(t *testing.T) {
	c, key := direct(t), prefix(t)+"a"
	put(t, c, key, "1")
	r2, r3 := put(t, c, key, "2"), put(t, c, key, "3")
	l, opts := listen(watch.Options{Revision: r2})
	w := openKey(t, c, key, opts)
	if w.Revision() != r2-1 {
		t.Errorf("Revision() = %d, want %d", w.Revision(), r2-1)
	}
	l.want(t, fmt.Sprintf("PUT %s %q %d", key, "2", r2))
	l.want(t, fmt.Sprintf("PUT %s %q %d", key, "3", r3))
}

func TestKeyPrefixAndFilters(t *testing.T) {
	c, p := direct(t), prefix(t)
	puts, opts := listen(watch.Options{Prefix: true, NoDelete: true})
	openKey(t, c, p, opts)
	deletes, opts := listen(watch.Options{Prefix: true, NoPut: true, PrevKV: true})
	last := make(chan string, 1)
	tell := opts.Event
	opts.Event = func(ev *clientv3.Event) { last <- string(ev.PrevKv.GetValue()); tell(ev) }
	openKey(t, c, p, opts)

	r1, r2 := put(t, c, p+"a", "x"), del(t, c, p+"a")
	r3 := put(t, c, p+"b", "y")
	puts.want(t, fmt.Sprintf("PUT %sa %q %d", p, "x", r1))
	puts.want(t, fmt.Sprintf("PUT %sb %q %d", p, "y", r3))
	deletes.want(t, fmt.Sprintf("DELETE %sa %q %d", p, "", r2))
	if v := receive(t, last); v != "x" {
		t.Errorf("the value before the delete is %q", v)
	}
}

func TestKeyLostByCompaction(t *testing.T) {
	c, key := direct(t), prefix(t)+"a"
	r1 := put(t, c, key, "1")
	put(t, c, key, "2")
	r3 := put(t, c, key, "3")
	compact(t, c, r3)
	l, opts := listen(watch.Options{Revision: r1})
	w := openKey(t, c, key, opts)
	err := receive(t, l.lost)
	e, ok := errors.AsType[*watch.LostError](err)
	if !ok || e.Reason != watch.Compacted || e.CompactRevision != r3 || !errors.Is(err, rpctypes.ErrCompacted) {
		t.Errorf("lost with %#v", err)
	}
	w.Close()
	if len(l.lost) != 0 || len(l.events) != 0 {
		t.Errorf("%d events, %d more losses", len(l.events), len(l.lost))
	}
}

func TestKeyLostWithClient(t *testing.T) {
	c, key := direct(t), prefix(t)+"a"
	l, opts := listen(watch.Options{})
	openKey(t, c, key, opts)
	c.Close()
	if e, ok := errors.AsType[*watch.LostError](receive(t, l.lost)); !ok || e.Reason != watch.Closed {
		t.Errorf("lost with %#v", e)
	}
	_, err := watch.Key(ctxOf(t), c, key, opts)
	if e, ok := errors.AsType[*watch.LostError](err); !ok || e.Reason != watch.Closed {
		t.Errorf("a closed client gave %#v", err)
	}
}

func TestKeyContextBoundsRegistrationOnly(t *testing.T) {
	l := newLink(t, shared())
	c, key := client(t, l.address()), prefix(t)+"a"
	ctx, cancel := context.WithCancel(ctxOf(t))
	heard, opts := listen(watch.Options{})
	w, err := watch.Key(ctx, c, key, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	cancel()
	r := put(t, c, key, "after the context")
	heard.want(t, fmt.Sprintf("PUT %s %q %d", key, "after the context", r))

	if _, err := watch.Key(ctx, c, key, opts); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context gave %v", err)
	}
	l.Freeze()
	ctx, cancel = context.WithCancel(ctxOf(t))
	result := make(chan error)
	go func() {
		_, err := watch.Key(ctx, c, key, opts)
		result <- err
	}()
	cancel()
	if err := receive(t, result); !errors.Is(err, context.Canceled) {
		t.Errorf("an unreachable server gave %v", err)
	}
}

func TestKeyResumesWithoutGapOrRepetition(t *testing.T) {
	l := newLink(t, shared())
	c, far, key := direct(t), client(t, l.address()), prefix(t)+"a"
	put(t, c, key, "before the registration")
	heard, opts := listen(watch.Options{})
	openKey(t, far, key, opts)
	for i := range 3 {
		l.Cut()
		r := put(t, c, key, fmt.Sprint(i))
		l.Heal()
		heard.want(t, fmt.Sprintf("PUT %s %q %d", key, fmt.Sprint(i), r))
	}
	if len(heard.lost) != 0 {
		t.Errorf("lost: %v", <-heard.lost)
	}
}

func TestKeyStopFromCallback(t *testing.T) {
	c, p := direct(t), prefix(t)
	var w *watch.Watch
	ready, first, calls := make(chan struct{}), make(chan struct{}, 3), atomic.Int64{}
	w = openKey(t, c, p, watch.Options{Prefix: true, Event: func(*clientv3.Event) {
		<-ready
		calls.Add(1)
		w.Stop()
		first <- struct{}{}
	}})
	close(ready)
	ops := []clientv3.Op{clientv3.OpPut(p+"a", ""), clientv3.OpPut(p+"b", ""), clientv3.OpPut(p+"c", "")}
	if _, err := c.Txn(ctxOf(t)).Then(ops...).Commit(); err != nil {
		t.Fatal(err)
	}
	receive(t, first)
	if w.Close(); calls.Load() > 1 {
		t.Errorf("%d calls after Stop", calls.Load()-1)
	}
}

func TestManyKeysShareOneStream(t *testing.T) {
	var streams atomic.Int64
	c, p := client(t, shared(), countStreams(&streams)), prefix(t)
	l, opts := listen(watch.Options{})
	const n = 500
	watches := make(chan *watch.Watch, n)
	for i := range n {
		go func() {
			w, err := watch.Key(ctxOf(t), c, fmt.Sprint(p, i), opts)
			if err != nil {
				t.Error(err)
			}
			watches <- w
		}()
	}
	for range n {
		if w := receive(t, watches); w != nil {
			t.Cleanup(w.Close)
		}
	}
	for i := range n {
		put(t, c, fmt.Sprint(p, i), "")
	}
	for range n {
		receive(t, l.events)
	}
	if got := streams.Load(); got != 1 {
		t.Errorf("%d watches use %d streams", n, got)
	}
}
