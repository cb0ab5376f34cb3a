package barrier_test

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
)

func held(tb testing.TB, b *barrier.Barrier) *barrier.Hold {
	tb.Helper()
	return must[*barrier.Hold](tb)(b.Hold(within(tb)))
}

func TestBarrierOpensWithTheLastHold(t *testing.T) {
	name := etcd.Prefix(t)
	b := barrier.New(session(t), name)
	noError(t, b.Wait(within(t))) // nobody holds it
	first, second := held(t, b), held(t, barrier.New(session(t), name, barrier.WithPurpose("loading")))
	if second.Token() <= first.Token() {
		t.Errorf("token %d after %d", second.Token(), first.Token())
	}
	var waiting []*call[none]
	for range 3 {
		waiting = append(waiting, waitingFor(within(t), barrier.New(session(t), name)), waitingFor(within(t), b))
	}
	all := must[[]barrier.Party](t)(b.Holders(within(t)))
	if len(all) != 2 {
		t.Errorf("holders %+v", all)
	}
	noError(t, first.Release())
	noError(t, first.Release())
	isAll(t, over(t, first), core.ErrReleased)
	for _, c := range waiting {
		c.pending(t)
	}
	_, err := first.Commit(within(t), clientv3.OpPut("stale/"+name, ""))
	isAll(t, err, barrier.ErrLost)
	must[*clientv3.TxnResponse](t)(second.Commit(within(t), clientv3.OpPut("guarded/"+name, "")))
	noError(t, second.Release())
	for _, c := range waiting {
		c.get(t)
	}
	if left := keysOf(t, name, ""); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestWaitTimeout(t *testing.T) {
	name := etcd.Prefix(t)
	b := barrier.New(session(t), name)
	h := held(t, b)
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	isAll(t, b.Wait(ctx), context.DeadlineExceeded)
	noError(t, h.Release())
}

// TestHolderDies checks both policies: the barrier opens, or it is broken until it
// is held again.
func TestHolderDies(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	b := barrier.New(s, name)
	dying := session(t, core.WithOwner("dying"))
	h := held(t, barrier.New(dying, name))
	c := waitingFor(within(t), b)
	expire(t, dying)
	c.get(t)
	isAll(t, over(t, h), barrier.ErrLost, core.ErrSessionExpired)
	isAll(t, h.Release(), barrier.ErrLost, core.ErrSessionExpired)

	dying = session(t, core.WithOwner("dying"))
	held(t, barrier.New(dying, name, barrier.WithBreakOnLoss()))
	c = waitingFor(within(t), b)
	expire(t, dying)
	_, err := c.result(t)
	isLost(t, err, "dying")
	isLost(t, b.Wait(within(t)), "dying") // who comes later is told too
	all := must[[]barrier.Party](t)(b.Holders(within(t)))
	if len(all) != 1 || !all[0].Lost || all[0].Owner != "dying" {
		t.Errorf("holders %+v", all)
	}
	h = held(t, barrier.New(s, name, barrier.WithBreakOnLoss()))
	c = waitingFor(within(t), b)
	noError(t, h.Release())
	c.get(t)
	if left := keysOf(t, name, ""); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestPersistentHold(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	h := held(t, barrier.New(s, name, barrier.WithPersistent(), barrier.WithBreakOnLoss()))
	noError(t, s.Close())
	isAll(t, over(t, h), barrier.ErrLost, core.ErrSessionClosed)
	b := barrier.New(session(t), name)
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	isAll(t, b.Wait(ctx), context.DeadlineExceeded)
	_, err := b.Resume(within(t), 0) // not the session's
	isAll(t, err, barrier.ErrLost)
	_, err = b.Resume(within(t), h.Token()+1<<16)
	isAll(t, err, barrier.ErrLost)
	again := must[*barrier.Hold](t)(b.Resume(within(t), h.Token()))
	if again.Token() != h.Token() {
		t.Errorf("token %d, want %d", again.Token(), h.Token())
	}
	// It stands although no session of this process wrote it.
	eventually(t, "the keeper's look", func() bool { return again.Context().Err() == nil && len(keysOf(t, name, "hold/")) == 1 })
	c := waitingFor(within(t), b)
	noError(t, again.Release())
	c.get(t)
	if left := keysOf(t, name, ""); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

func TestOpen(t *testing.T) {
	name := etcd.Prefix(t)
	b := barrier.New(session(t), name)
	h := held(t, barrier.New(session(t), name, barrier.WithBreakOnLoss()))
	held(t, barrier.New(session(t), name, barrier.WithPersistent()))
	c := waitingFor(within(t), b)
	if n := must[int](t)(b.Open(within(t))); n != 2 {
		t.Errorf("%d holds, want 2", n)
	}
	c.get(t)
	isAll(t, over(t, h), barrier.ErrLost, core.ErrKeyDeleted)
	isAll(t, h.Release(), barrier.ErrLost, core.ErrKeyDeleted)
}
