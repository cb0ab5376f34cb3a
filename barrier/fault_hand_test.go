package barrier_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// What no protocol can rule out: a hand in the keys, a watch that is lost, and a
// client that is closed below a wait.

func TestTicketDeletedByHand(t *testing.T) {
	name := etcd.Prefix(t)
	c := entering(within(t), barrier.NewDouble(session(t), name, 2))
	tickets(t, name, 1)
	if _, err := etcd.Client(t).Delete(within(t), etcdKey(t, name, "double/in/")); err != nil {
		t.Fatal(err)
	}
	_, err := c.result(t)
	isAll(t, err, core.ErrKeyDeleted)
	onlyStates(t, name)
}

// etcdKey is the only key of a part.
func etcdKey(tb testing.TB, name, part string) string {
	tb.Helper()
	kvs := etcd.Dump(tb, prefixOf(name)+part)
	if len(kvs) != 1 {
		tb.Fatalf("%d keys below %s", len(kvs), part)
	}
	return string(kvs[0].Key)
}

func TestEntryAndHoldDeletedByHand(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	e := must[*barrier.Entry](t)(barrier.NewDouble(s, name, 1).Enter(within(t)))
	h := held(t, barrier.New(s, name))
	for _, part := range []string{"double/in/", "hold/"} {
		if _, err := etcd.Client(t).Delete(within(t), etcdKey(t, name, part)); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range []core.Ownership{e, h} {
		isAll(t, over(t, o), barrier.ErrLost, core.ErrKeyDeleted)
	}
	isAll(t, e.Leave(within(t)), barrier.ErrLost, core.ErrKeyDeleted)
	isAll(t, h.Release(), barrier.ErrLost, core.ErrKeyDeleted)
	again := must[*barrier.Entry](t)(barrier.NewDouble(s, name, 1).Enter(within(t)))
	if again.Generation() != 2 {
		t.Errorf("generation %d, want 2", again.Generation())
	}
}

// TestOthersAreNotLost deletes one of two holds of a session by hand, when both have
// stood for long enough to be watched: the other one stands.
func TestOthersAreNotLost(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	b := barrier.New(s, name)
	kept, first := held(t, b), held(t, b)
	e := must[*barrier.Entry](t)(barrier.NewDouble(s, name, 1).Enter(within(t)))
	for _, lost := range []*barrier.Hold{first, held(t, b)} {
		for _, kv := range etcd.Dump(t, prefixOf(name)+"hold/") {
			if kv.ModRevision != int64(lost.Token())>>16 {
				continue
			}
			if _, err := etcd.Client(t).Delete(within(t), string(kv.Key)); err != nil {
				t.Fatal(err)
			}
		}
		isAll(t, over(t, lost), barrier.ErrLost, core.ErrKeyDeleted)
		for _, o := range []core.Ownership{kept, e} {
			if o.Context().Err() != nil {
				t.Errorf("lost: %v", context.Cause(o.Context()))
			}
		}
	}
	noError(t, kept.Release())
	noError(t, e.Leave(within(t)))
}

// TestStateDeletedByHand deletes what a generation stands on, with a member in it.
func TestStateDeletedByHand(t *testing.T) {
	name := etcd.Prefix(t)
	s := session(t)
	c := entering(within(t), barrier.NewDouble(s, name, 2))
	tickets(t, name, 1)
	if _, err := etcd.Client(t).Delete(within(t), prefixOf(name)+"double/at"); err != nil {
		t.Fatal(err)
	}
	_, err := c.result(t)
	isAll(t, err, core.ErrKeyDeleted)
	e := must[*barrier.Entry](t)(barrier.NewDouble(s, name, 1).Enter(within(t)))
	noError(t, e.Leave(within(t)))
}

// P12: etcd's own Barrier.Wait reports a release when its watch is lost while the
// barrier is held. Here the watch is lost to a compaction, and to a link that is
// cut; the state decides.
func TestP12ALostWatchIsNoRelease(t *testing.T) {
	for how, broken := range map[string]func(*coretest.Link){
		"cut":    (*coretest.Link).Cut,
		"silent": func(l *coretest.Link) { l.Blackhole(coretest.Both) },
	} {
		t.Run(how, func(t *testing.T) {
			e := coretest.StartEtcd(t)
			name := etcd.Prefix(t)
			link := e.Link(t)
			s := must[*core.Session](t)(core.NewSession(within(t), coretest.Dial(t, link.Endpoint()), core.WithTTL(time.Minute)))
			t.Cleanup(func() {
				link.Heal()
				_ = s.Close()
			})
			holder := sessionOn(t, e)
			h := held(t, barrier.New(holder, name))
			c := waitingFor(within(t), barrier.New(s, name))
			d := entering(within(t), barrier.NewDouble(s, name, 2))
			eventually(t, "a ticket", func() bool { return len(e.Dump(t, prefixOf(name)+"double/in/")) == 1 })
			broken(link)
			for i := range 20 {
				if _, err := e.Client(t).Put(within(t), fmt.Sprint("other/", i), ""); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := e.Client(t).Compact(within(t), e.Revision(t)); err != nil {
				t.Fatal(err)
			}
			link.Cut() // the connection is opened anew, and its watches with it
			link.Heal()
			noError(t, patient(t, s.Client().Get, "other/0")) // it is back
			c.pending(t)
			d.pending(t)
			noError(t, h.Release())
			c.get(t)
			must[*barrier.Entry](t)(barrier.NewDouble(holder, name, 2).Enter(within(t)))
			d.get(t)
		})
	}
}

// patient repeats a read until it is answered.
func patient[R, O any](tb testing.TB, read func(context.Context, string, ...O) (R, error), key string) error {
	tb.Helper()
	ctx := within(tb)
	for {
		if _, err := read(ctx, key); err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// TestClientClosedIsNoRelease closes the client below a wait.
func TestClientClosedIsNoRelease(t *testing.T) {
	name := etcd.Prefix(t)
	held(t, barrier.New(session(t), name))
	client := etcd.Client(t)
	s := must[*core.Session](t)(core.NewSession(within(t), client))
	c := waitingFor(within(t), barrier.New(s, name))
	_ = client.Close()
	if _, err := c.result(t); err == nil {
		t.Error("it opened")
	}
	_ = s.Close()
}
