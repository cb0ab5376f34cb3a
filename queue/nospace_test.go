package queue_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/queue"
)

// When etcd is out of space it takes deletes only: what was taken can be acked, what was
// taken together only together, and nothing else goes on until there is space again. Then
// everything does.
func TestWithoutSpace(t *testing.T) {
	small := coretest.StartEtcd(t, coretest.WithConfig(func(c *embedded.Config) { c.QuotaBytes = 4 << 20 }))
	s := must[*core.Session](t)(core.NewSession(within(t), small.Client(t)))
	t.Cleanup(func() { _ = s.Close() })
	q := queue.New[string](s, "orders")
	for n := range 3 {
		put(t, q, fmt.Sprint(n))
	}
	i := take(t, q)
	some := queue.New[string](s, "some")
	all := [][]*queue.Item[string]{taken(t, some, 2), taken(t, some, 3)}
	c := small.Client(t)
	fillSpace(t, c)
	if _, err := q.Enqueue(within(t), "more"); !errors.Is(err, rpctypes.ErrNoSpace) || errors.Is(err, core.ErrUnknownOutcome) {
		t.Errorf("Enqueue: %v", err)
	}
	ack(t, i)
	if err := queue.AckAll(within(t), all[0]); err != nil {
		t.Errorf("all of some items: %v", err)
	}
	if err := all[1][0].Ack(within(t)); !errors.Is(err, rpctypes.ErrNoSpace) || errors.Is(err, core.ErrUnknownOutcome) || all[1][0].Context().Err() != nil {
		t.Errorf("one of some items: %v", err)
	}
	if err := queue.AckAll(within(t), all[1][1:]); !errors.Is(err, rpctypes.ErrNoSpace) || depth(t, some) != 3 {
		t.Errorf("two of three items: %v; %d stand", err, depth(t, some))
	}
	if _, err := q.TryDequeue(within(t)); !errors.Is(err, rpctypes.ErrNoSpace) {
		t.Errorf("TryDequeue: %v", err)
	}
	makeSpace(t, c)
	wants(t, q, "1", "2")
	for _, i := range all[1] {
		ack(t, i)
	}
}

func fillSpace(t *testing.T, c *clientv3.Client) {
	t.Helper()
	for i := 0; ; i++ {
		_, err := c.Put(within(t), fmt.Sprint("fill/", i), strings.Repeat("x", 200<<10))
		if errors.Is(err, rpctypes.ErrNoSpace) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func makeSpace(t *testing.T, c *clientv3.Client) {
	t.Helper()
	gone, err := c.Delete(within(t), "fill/", clientv3.WithPrefix())
	if err == nil {
		_, err = c.Compact(within(t), gone.Header.Revision, clientv3.WithCompactPhysical())
	}
	if err == nil {
		_, err = c.Defragment(within(t), c.Endpoints()[0])
	}
	if err == nil {
		_, err = c.AlarmDisarm(within(t), &clientv3.AlarmMember{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A host serves a caller's session and stops: what the caller was given stands,
// and it acks at another host.
func TestTakenHereAckedThere(t *testing.T) {
	name, caller := etcd.Prefix(t), session(t)
	at := func() (*core.Lender, *queue.Queue[string]) {
		l := core.NewLender(etcd.Client(t))
		t.Cleanup(l.Close)
		s := must[*core.Session](t)(l.Session(core.Loan{Lease: caller.Lease(), TTL: caller.TTL(), Owner: "caller", Namespace: caller.Namespace()}))
		return l, queue.New[string](s, name)
	}
	host, there := at()
	put(t, there, "a")
	put(t, there, "b")
	a := take(t, there)
	host.Close()
	_, here := at()
	resumed := must[*queue.Item[string]](t)(here.Delivered(within(t), a.ID, a.Token()))
	if err := resumed.Extend(within(t), time.Minute); err != nil {
		t.Error(err)
	}
	ack(t, resumed)
	if err := a.Ack(context.Background()); err == nil {
		t.Error("a host that stopped acks")
	}
	wants(t, here, "b")
	coretest.ExpireLease(t, etcd.Client(t), caller.Lease())
	next := queue.New[string](session(t), name)
	if _, err := next.TryDequeue(within(t)); !errors.Is(err, queue.ErrEmpty) {
		t.Errorf("TryDequeue: %v", err)
	}
	if left := append(under(t, name, "until/"), under(t, name, "work/")...); len(left) > 1 {
		t.Errorf("left behind: %q", left) // but the new session's own mark
	}
}
