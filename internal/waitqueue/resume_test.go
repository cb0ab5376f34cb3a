package waitqueue

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/watch"
)

// An owner whose grant etcd has forgotten watches from where it looked, and does not
// ask again and again.
func TestResumedOwnerWatchesAfterACompaction(t *testing.T) {
	name := etcd.Prefix(t)
	q, _ := open(t)
	bounded, r := bounded(t), apart(name)
	place, err := acquired(t, q, r).Detach()
	if err != nil {
		t.Fatal(err)
	}
	client := etcd.Client(t)
	var now int64
	for range 3 {
		put, err := client.Put(bounded, name+"-noise", "")
		if err != nil {
			t.Fatal(err)
		}
		now = put.Header.Revision
	}
	if _, err := client.Compact(bounded, now); err != nil {
		t.Fatal(err)
	}
	o, err := q.ResumeAt(name, place, r.Lost)
	if err != nil {
		t.Fatal(err)
	}
	watches := func() []*watch.Watch {
		o.t.mu.Lock()
		defer o.t.mu.Unlock()
		return slices.Clone(o.t.watches)
	}
	for steady := false; !steady; {
		began := watches()
		other := acquired(t, q, apart(name+"-other"))
		known(t, other, 0) // enough time for etcd to refuse a revision that it has forgotten
		released(t, other)
		steady = len(began) == 2 && slices.Equal(watches(), began) // of the grant and the notice
		if bounded.Err() != nil {
			t.Fatal("the owner does not watch, or watches anew all the time")
		}
	}
	released(t, o)
}

// waiterOf returns the id of the one who waits for so many permits.
func waiterOf(tb testing.TB, q *Queue, name string, permits int) string {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; {
		all, err := q.Contenders(bounded(tb), []string{name})
		if err != nil {
			tb.Fatal(err)
		}
		for _, c := range all {
			if !c.Holds && c.Record.Permits == permits {
				return c.Record.ID
			}
		}
		if time.Now().After(deadline) {
			tb.Fatalf("nobody waits for %d permits", permits)
		}
	}
}

// An heir of permits may not want more than its predecessor gives back.
func TestTransferOfPermits(t *testing.T) {
	name := etcd.Prefix(t)
	q, _ := open(t)
	small, _ := open(t)
	large, _ := open(t)
	one, two := acquired(t, q, permits(name, 1)), acquired(t, q, permits(name, 2))
	wants1 := background(t, bounded(t), small, permits(name, 1))
	waiterOf(t, q, name, 1)
	wants2 := background(t, bounded(t), large, permits(name, 2))
	heir := waiterOf(t, q, name, 2)
	if err := q.Transfer(bounded(t), name, one.a.id, heir); !errors.Is(err, ErrNoContender) {
		t.Errorf("an heir that wants more: %v", err)
	}
	if err := q.Transfer(bounded(t), name, two.a.id, heir); err != nil {
		t.Fatal(err)
	}
	next := served(t, wants2)
	released(t, one)
	released(t, served(t, wants1))
	released(t, next)
	<-two.Context().Done() // it hears of both at once
	if err := two.Release(); !errors.Is(err, core.ErrRevoked) {
		t.Errorf("the owner that was passed over: %v", err)
	}
}
