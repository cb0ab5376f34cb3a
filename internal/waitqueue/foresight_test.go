package waitqueue

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

func apart(name string) *Request {
	r := exclusive(name)
	r.Apart = true
	return r
}

// known waits until the owner knows of n waiters.
func known(tb testing.TB, o *Owned, n int) []hint {
	tb.Helper()
	for deadline := time.Now().Add(patience); ; etcd.Revision(tb) {
		if hints, ok := o.t.foreseen(); ok && len(hints) == n {
			return hints
		}
		if time.Now().After(deadline) {
			tb.Fatalf("the owner does not know of %d waiters", n)
		}
	}
}

// An owner who stays for long lets go with one request, whether or not it waited
// itself, and to the most urgent.
func TestForesight(t *testing.T) {
	name := etcd.Prefix(t)
	q, _ := open(t)
	o := acquired(t, q, apart(name))
	known(t, o, 0)
	ctx, cancel := context.WithCancel(bounded(t))
	first := background(t, bounded(t), q, apart(name))
	known(t, o, 1)
	gone := background(t, ctx, q, apart(name))
	known(t, o, 2)
	urgent := apart(name)
	urgent.Priority = 3
	second := background(t, bounded(t), q, urgent)
	if hints := known(t, o, 3); hints[0].Key != q.keys(name).ticket(bucketOf(3), recordIn(hints[0].Record).ID) {
		t.Errorf("the first in line is %s", hints[0].Key)
	}
	cancel()
	if r := <-gone; r.err == nil {
		t.Fatal("a wait that was given up owns")
	}
	known(t, o, 2)
	for i, next := range []<-chan result{second, first} {
		before := etcd.RaftIndex(t)
		if err := o.Release(); err != nil {
			t.Fatal(err)
		}
		if cost := etcd.RaftIndex(t) - before; cost != 1 {
			t.Errorf("release %d cost %d raft entries, want 1", i, cost)
		}
		r := <-next
		if r.err != nil {
			t.Fatal(r.err)
		}
		o = r.o
		known(t, o, 1-i)
	}
	if err := o.Release(); err != nil {
		t.Fatal(err)
	}
}

// The same of an owner beside others: of the line it knows what its permits are for.
func TestForesightOfPermits(t *testing.T) {
	name := etcd.Prefix(t)
	q, _ := open(t)
	seat := apart(name)
	seat.Mode, seat.Permits, seat.Limit = Permits, 1, 2
	owners := []*Owned{acquired(t, q, seat), acquired(t, q, seat)}
	var waiting []<-chan result
	for i := range 3 {
		waiting = append(waiting, background(t, bounded(t), q, seat))
		known(t, owners[0], i+1)
	}
	known(t, owners[1], 3)
	for i, next := range waiting {
		before := etcd.RaftIndex(t)
		if err := owners[0].Release(); err != nil {
			t.Fatal(err)
		}
		if cost := etcd.RaftIndex(t) - before; cost != 1 {
			t.Errorf("release %d cost %d raft entries, want 1", i, cost)
		}
		r := <-next
		if r.err != nil {
			t.Fatal(r.err)
		}
		owners = append(owners[1:], r.o)
		known(t, owners[0], 2-i)
	}
	for _, o := range owners {
		if err := o.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

// A line that is too long to keep in mind is read when it matters.
func TestForesightIsBounded(t *testing.T) {
	f := &foresight{}
	if f.forget(); f.tickets != nil {
		t.Fatal("it knows")
	}
	name := etcd.Prefix(t)
	q, _ := open(t)
	o := acquired(t, q, apart(name))
	known(t, o, 0)
	o.t.mu.Lock()
	f = o.t.foresight
	o.t.mu.Unlock()
	waiter := background(t, bounded(t), q, apart(name))
	known(t, o, 1)
	for i := range maxForeseen {
		f.mu.Lock()
		f.put(&mvccpb.KeyValue{Key: fmt.Append(nil, "ticket ", i), Version: waiting})
		f.mu.Unlock()
	}
	if _, ok := o.t.foreseen(); ok {
		t.Error("it claims to know a line that is too long")
	}
	if err := o.Release(); err != nil {
		t.Fatal(err)
	}
	r := <-waiter
	if r.err != nil {
		t.Fatal(r.err)
	}
	if err := r.o.Release(); err != nil {
		t.Fatal(err)
	}
}
