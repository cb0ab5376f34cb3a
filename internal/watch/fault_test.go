package watch_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/conclavehq/conclave/internal/watch"
)

func TestObserveSurvivesCuts(t *testing.T) {
	l := newLink(t, shared())
	c, far, p := direct(t), client(t, l.address()), prefix(t)
	o := observe(t, far, p, watch.ObserveOptions{})
	o.batch(t)
	for i := range 3 {
		l.Cut()
		put(t, c, p+"a", fmt.Sprint(i))
		put(t, c, p+"b", fmt.Sprint(i))
		del(t, c, p+"b")
		l.Heal()
		if b := o.batch(t); len(b.Events) != 1 || string(b.Events[0].Kv.Value) != fmt.Sprint(i) {
			t.Fatalf("turn %d: %s", i, shape(b))
		}
		wantShape(t, o.batch(t), fmt.Sprintf("b=%d", i))
		wantShape(t, o.batch(t), fmt.Sprintf("-b was %d", i))
	}
}

func TestObserveCompactedWhileAway(t *testing.T) {
	l := newLink(t, shared())
	c, far, p := direct(t), client(t, l.address()), prefix(t)
	for _, name := range []string{"kept", "changed", "deleted", "replaced"} {
		put(t, c, p+name, "1")
	}
	o := observe(t, far, p, watch.ObserveOptions{})
	first := o.batch(t)
	l.Cut()
	put(t, c, p+"changed", "2")
	put(t, c, p+"changed", "3")
	del(t, c, p+"deleted")
	del(t, c, p+"replaced")
	put(t, c, p+"replaced", "1")
	put(t, c, p+"new", "1")
	put(t, c, p+"brief", "1")
	last := del(t, c, p+"brief")
	compact(t, c, last)
	l.Heal()
	b := o.batch(t)
	wantShape(t, b, "resync: changed=3 was 1, -deleted was 1, new=1, replaced=1 was 1")
	if b.Revision != last || b.Resync.From != first.Revision || b.Resync.To != last {
		t.Errorf("resync %+v at %d, want from %d to %d", *b.Resync, b.Revision, first.Revision, last)
	}
	put(t, c, p+"new", "2")
	wantShape(t, o.batch(t), "new=2 was 1")
}

// A frozen link closes nothing: only silence tells.
func TestObserveTellsSilence(t *testing.T) {
	l := newLink(t, shared())
	c, far, p := direct(t), client(t, l.address()), prefix(t)
	stale := make(chan bool, 100)
	o := observe(t, far, p, watch.ObserveOptions{
		Quiet: 50 * time.Millisecond, StaleAfter: 500 * time.Millisecond,
		Stale: func(s bool, cause error) {
			if s != (cause != nil) {
				t.Errorf("stale %v because of %v", s, cause)
			}
			stale <- s
		},
	})
	o.batch(t)
	put(t, c, p+"a", "0")
	wantShape(t, o.batch(t), "a=0")
	l.Freeze()
	if !receive(t, stale) {
		t.Fatal("fresh before it was stale")
	}
	put(t, c, p+"a", "1")
	l.Heal()
	if receive(t, stale) {
		t.Fatal("stale twice")
	}
	// The watch began again where it was, and the last revision was not repeated.
	wantShape(t, o.batch(t), "a=1 was 0")
}

// The answers to progress requests keep the place of a quiet prefix ahead of
// compaction. Each round races the answer's way through two goroutines, so that
// one of many decides; without answers every round ends with a Resync.
func TestObserveQuietPrefixKeepsItsPlace(t *testing.T) {
	l := newLink(t, shared())
	c, far, p := direct(t), client(t, l.address()), prefix(t)
	o := observe(t, far, p, watch.ObserveOptions{Quiet: 100 * time.Millisecond})
	o.batch(t)
	for ctx := ctxOf(t); ctx.Err() == nil; {
		elsewhere := put(t, c, strings.TrimSuffix(p, "/")+"2/a", "")
		waitProgress(t, far, elsewhere)
		l.Cut()
		compact(t, c, elsewhere)
		put(t, c, p+"a", "1")
		l.Heal()
		if o.batch(t).Resync == nil {
			return
		}
	}
	t.Error("every compaction elsewhere led to a resync")
}

// waitProgress waits until the observers' stream of c has been told rev.
func waitProgress(t *testing.T, c *clientv3.Client, rev int64) {
	t.Helper()
	ctx, cancel := watch.ObserversContext(ctxOf(t))
	defer cancel()
	responses := c.Watch(ctx, "/conclave/nothing", clientv3.WithCreatedNotify())
	<-responses
	for resp := range responses {
		if resp.Header.Revision >= rev {
			return
		}
	}
	t.Fatal("no progress")
}

// Concurrent writers, transactions over several keys, and a link that is cut
// again and again: what the loop sees is etcd's history, each event once.
func TestObserveLosesNothingAndRepeatsNothing(t *testing.T) {
	l := newLink(t, shared())
	c, far, p := direct(t), client(t, l.address()), prefix(t)
	o := observe(t, far, p, watch.ObserveOptions{})
	st := newState()
	st.take(t, o.batch(t))
	start := st.revision

	stop := make(chan struct{})
	var faults, writers sync.WaitGroup
	faults.Go(func() { disturb(l, stop) })
	for w := range 4 {
		writers.Go(func() { write(t, c, p, rand.New(rand.NewPCG(1, uint64(w))), 300) })
	}
	finished := make(chan int64, 1)
	go func() {
		writers.Wait()
		close(stop)
		faults.Wait()
		finished <- put(t, c, p+"end", "")
	}()
	last := int64(1) << 62
	for st.revision < last {
		select {
		case last = <-finished:
		case got := <-o.pairs:
			if got.err != nil {
				t.Fatal(got.err)
			}
			st.take(t, got.batch)
		}
	}
	if len(st.resyncs) != 0 {
		t.Errorf("nothing was compacted, but resynced: %+v", st.resyncs)
	}
	if want := history(t, c, p, start, last); !slices.Equal(st.events, want) {
		t.Errorf("the loop saw %d events, etcd has %d", len(st.events), len(want))
	}
	st.wantList(t, c, p)
}

// The same with compaction: single revisions may be missing, but only where a
// Resync says so, and the state is right at every end.
func TestObserveConvergesUnderCompaction(t *testing.T) {
	l := newLink(t, shared())
	c, far, p := direct(t), client(t, l.address()), prefix(t)
	o := observe(t, far, p, watch.ObserveOptions{Buffer: 32 << 10})
	st := newState()
	st.take(t, o.batch(t))
	resyncs := 0
	for round := range 10 {
		l.Cut()
		write(t, c, p, rand.New(rand.NewPCG(2, uint64(round))), 50)
		last := put(t, c, p+"end", fmt.Sprint(round))
		if round%2 == 0 {
			compact(t, c, last)
			resyncs++
		}
		l.Heal()
		for st.revision < last {
			st.take(t, o.batch(t))
		}
		st.wantList(t, c, p)
	}
	if len(st.resyncs) != resyncs {
		t.Errorf("%d compactions led to the resyncs %+v", resyncs, st.resyncs)
	}
}

// disturb cuts and heals until it is told to stop, and leaves the link whole.
func disturb(l *link, stop <-chan struct{}) {
	defer l.Heal()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		if i%4 == 0 {
			l.Cut()
		} else {
			l.Heal()
		}
	}
}

// write does n random puts, deletes and transactions on few keys.
func write(t *testing.T, c *clientv3.Client, p string, r *rand.Rand, n int) {
	for i := range n {
		var ops []clientv3.Op
		for _, k := range r.Perm(12)[:1+r.IntN(5)] {
			key := fmt.Sprintf("%s%02d", p, k)
			if r.IntN(3) == 0 {
				ops = append(ops, clientv3.OpDelete(key))
			} else {
				ops = append(ops, clientv3.OpPut(key, fmt.Sprint(i)))
			}
		}
		if _, err := c.Txn(ctxOf(t)).Then(ops...).Commit(); err != nil {
			t.Error(err)
			return
		}
	}
}

// A catch-up that etcd sends in fragments still gives whole revisions.
func TestObserveLargeCatchUp(t *testing.T) {
	l := newLink(t, shared())
	c, far, p := direct(t), client(t, l.address()), prefix(t)
	o := observe(t, far, p, watch.ObserveOptions{})
	st := newState()
	st.take(t, o.batch(t))
	start, last := st.revision, int64(0)
	l.Cut()
	for range 8 {
		var ops []clientv3.Op
		for k := range 7 {
			ops = append(ops, clientv3.OpPut(fmt.Sprint(p, k), strings.Repeat("x", 150_000)))
		}
		resp, err := c.Txn(ctxOf(t)).Then(ops...).Commit()
		if err != nil {
			t.Fatal(err)
		}
		last = resp.Header.Revision
	}
	l.Heal()
	for st.revision < last {
		b := o.batch(t)
		if len(b.Events) != 7 {
			t.Errorf("revision %d came with %d of 7 events", b.Revision, len(b.Events))
		}
		st.take(t, b)
	}
	if want := history(t, c, p, start, last); !slices.Equal(st.events, want) {
		t.Errorf("the loop saw %d events, etcd has %d", len(st.events), len(want))
	}
}

// A store that was replaced by an older one is at a smaller revision: a watch
// there would wait for ever.
func TestObserveStoreReplacedByOlderOne(t *testing.T) {
	other, err := member(t.TempDir(), func(cfg *embed.Config) { cfg.InitialClusterToken = "other" })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	l := newLink(t, shared())
	c, old, p := direct(t), client(t, address(other)), prefix(t)
	put(t, old, p+"a", "old")
	put(t, c, p+"a", "new")
	put(t, c, p+"b", "new")
	o := observe(t, client(t, l.address()), p, watch.ObserveOptions{Quiet: 100 * time.Millisecond})
	wantShape(t, o.batch(t), "snapshot: a=new, b=new")
	l.Cut()
	l.set(func() { l.target = address(other) })
	l.Heal()
	b := o.batch(t)
	wantShape(t, b, "resync: a=old was new, -b was new")
	if b.Resync.To >= b.Resync.From {
		t.Errorf("resync %+v", *b.Resync)
	}
	put(t, old, p+"a", "newer")
	wantShape(t, o.batch(t), "a=newer was old")
}
