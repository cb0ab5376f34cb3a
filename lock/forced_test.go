package lock_test

import (
	"cmp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

func TestForceRelease(t *testing.T) {
	operator := session(t, core.WithOwner("ops"))
	m := lock.NewMutex(operator, "forced")
	h := locked(t, lock.NewMutex(session(t), "forced"))
	next := locking(t, lock.NewMutex(session(t), "forced"))
	waiting(t, m, 1)
	token := must[core.Token](t)(m.ForceRelease(within(t), "host is on fire"))
	if token != h.Token() {
		t.Errorf("revoked token %d, want %d", token, h.Token())
	}
	cause := ended(t, h)
	isAll(t, cause, lock.ErrLost, core.ErrRevoked)
	for _, part := range []string{"ops", "host is on fire", `"forced"`} {
		if !strings.Contains(cause.Error(), part) {
			t.Errorf("the cause %q does not say %q", cause, part)
		}
	}
	n := next.get(t)
	growing(t, h, n)
	for range 2 {
		isAll(t, h.Unlock(), lock.ErrLost, core.ErrRevoked)
	}
	if _, err := n.Commit(within(t)); err != nil {
		t.Errorf("the late release touched the next owner: %v", err)
	}
	unlock(t, n)
	eventually(t, "nothing stands", func() bool { return len(standing(t, "forced")) == 0 })
}

func TestForceReleaseOfNobody(t *testing.T) {
	m := lock.NewMutex(session(t), "forced-nobody")
	before := etcd.Revision(t)
	if token := must[core.Token](t)(m.ForceRelease(within(t), "")); token != 0 {
		t.Errorf("revoked %d of nobody", token)
	}
	if after := etcd.Revision(t); after != before {
		t.Errorf("revision %d to %d", before, after)
	}
}

func TestForceReleaseOfAllReaders(t *testing.T) {
	operator := lock.NewRWMutex(session(t), "forced-readers")
	var readers []*lock.Held
	for range 3 {
		readers = append(readers, rlocked(t, lock.NewRWMutex(session(t), "forced-readers")))
	}
	w := locking(t, operator)
	waiting(t, operator, 1)
	largest := must[core.Token](t)(operator.ForceRelease(within(t), "testing"))
	if largest != readers[2].Token() {
		t.Errorf("revoked %d, want %d", largest, readers[2].Token())
	}
	for _, r := range readers {
		isAll(t, ended(t, r), lock.ErrLost, core.ErrRevoked)
	}
	h := w.get(t)
	growing(t, readers[2], h)
	unlock(t, h)
	eventually(t, "nothing stands", func() bool { return len(standing(t, "forced-readers")) == 0 })
}

func TestForceReleaseOfAllPermits(t *testing.T) {
	operator := lock.NewSemaphore(session(t), "forced-permits", 3)
	one, two := permits(t, lock.NewSemaphore(session(t), "forced-permits", 3), 1), permits(t, lock.NewSemaphore(session(t), "forced-permits", 3), 2)
	all := acquiring(t, operator, 3)
	waiting(t, operator, 1)
	if largest := must[core.Token](t)(operator.ForceRelease(within(t), "testing")); largest != two.Token() {
		t.Errorf("revoked %d, want %d", largest, two.Token())
	}
	isAll(t, ended(t, one), lock.ErrLost, core.ErrRevoked)
	isAll(t, ended(t, two), lock.ErrLost, core.ErrRevoked)
	p := all.get(t)
	growing(t, one, two, p)
	release(t, p)
	isAll(t, one.Release(), lock.ErrLost, core.ErrRevoked)
	release(t, permits(t, lock.NewSemaphore(session(t), "forced-permits", 2), 2)) // the name is idle
}

// TestForceReleaseLeavesTheGrace checks that the owner is told first and that
// nobody owns the name before it lets go.
func TestForceReleaseLeavesTheGrace(t *testing.T) {
	operator := lock.NewMutex(session(t), "forced-grace")
	h := locked(t, lock.NewMutex(session(t), "forced-grace", lock.WithGrace(10*time.Second)))
	next := locking(t, lock.NewMutex(session(t), "forced-grace"))
	waiting(t, operator, 1)
	ctx := within(t)
	forced := inBackground(func() (core.Token, error) { return operator.ForceRelease(ctx, "testing") })
	isAll(t, ended(t, h), core.ErrRevoked)
	cs := must[[]lock.Contender](t)(operator.Contenders(within(t)))
	if len(cs) != 2 || !cs[0].Holds || cs[0].Token != h.Token() {
		t.Errorf("during the grace: %+v", cs)
	}
	// The work ends early: the name passes on at once, and the operator learns it.
	isAll(t, h.Unlock(), lock.ErrLost, core.ErrRevoked)
	n := next.get(t)
	growing(t, h, n)
	forced.get(t)
	if n.Context().Err() != nil {
		t.Error("the next owner was forced out too")
	}
	unlock(t, n)
}

func TestForceReleaseAfterTheGrace(t *testing.T) {
	t.Parallel()
	operator := lock.NewMutex(session(t), "forced-after-grace")
	h := locked(t, lock.NewMutex(session(t), "forced-after-grace", lock.WithGrace(time.Second)))
	next := locking(t, lock.NewMutex(session(t), "forced-after-grace"))
	waiting(t, operator, 1)
	events := etcd.Record(t, "/conclave/default/lock/forced-after-grace/")
	must[core.Token](t)(operator.ForceRelease(within(t), "testing")) // h does not let go by itself
	n := next.get(t)
	growing(t, h, n)
	isAll(t, ended(t, h), core.ErrRevoked)
	if first := string(events.Events()[0].Kv.Key); !isNotice(first) {
		t.Errorf("the first that happened was %s, not the notice", first)
	}
	unlock(t, n)
}

// TestForceReleaseTwiceAtOnce checks that two operators do not stand in each
// other's way, and that only the owner that they saw is forced out.
func TestForceReleaseTwiceAtOnce(t *testing.T) {
	operators := []*lock.Mutex{lock.NewMutex(session(t), "forced-twice"), lock.NewMutex(session(t), "forced-twice")}
	for range 5 {
		h := locked(t, lock.NewMutex(session(t), "forced-twice", lock.WithGrace(300*time.Millisecond)))
		ctx := within(t)
		var calls []*call[core.Token]
		for _, m := range operators {
			calls = append(calls, inBackground(func() (core.Token, error) { return m.ForceRelease(ctx, "testing") }))
		}
		for _, c := range calls {
			if token := c.get(t); token != h.Token() && token != 0 {
				t.Errorf("revoked %d, want %d", token, h.Token())
			}
		}
		isAll(t, ended(t, h), core.ErrRevoked)
	}
}

// TestForcedOutUnheard checks that an owner who acts before it was told hears from
// whatever it does why it owns no more, as its context says.
func TestForcedOutUnheard(t *testing.T) {
	acts := map[string]func(h *lock.Held) error{
		"unlock": (*lock.Held).Unlock,
		"commit": func(h *lock.Held) error {
			_, err := h.Commit(within(t))
			return err
		},
		"downgrade": func(h *lock.Held) error {
			_, err := h.Downgrade(within(t))
			return err
		},
	}
	for how, act := range acts {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			name := "forced-unheard-" + how
			h := locked(t, lock.NewRWMutex(session(t), name))
			must[core.Token](t)(lock.NewMutex(session(t), name).ForceRelease(within(t), "host is on fire"))
			unlock(t, locked(t, lock.NewMutex(session(t), name)))
			err := act(h)
			isAll(t, err, lock.ErrLost, core.ErrRevoked)
			if !strings.Contains(err.Error(), "host is on fire") {
				t.Errorf("the error %q does not say why", err)
			}
			isAll(t, h.Unlock(), lock.ErrLost)
		})
	}
}

// TestForceReleaseWithLockDelay checks that the delay of an owner that was told
// does not keep the name from others for as long as its session lives.
func TestForceReleaseWithLockDelay(t *testing.T) {
	operator := lock.NewMutex(session(t), "forced-delay")
	for _, waits := range []bool{true, false} {
		h := locked(t, lock.NewMutex(session(t), "forced-delay", lock.WithLockDelay(time.Hour)))
		var next *call[*lock.Held]
		if waits {
			next = locking(t, lock.NewMutex(session(t), "forced-delay"))
			waiting(t, operator, 1)
		}
		must[core.Token](t)(operator.ForceRelease(within(t), "testing"))
		isAll(t, ended(t, h), core.ErrRevoked)
		if !waits {
			next = locking(t, lock.NewMutex(session(t), "forced-delay"))
		}
		unlock(t, next.get(t))
	}
	eventually(t, "nothing stands", func() bool { return len(standing(t, "forced-delay")) == 0 })
}

func TestForceReleaseRefusesBadReasons(t *testing.T) {
	m := lock.NewMutex(session(t), "forced-reason")
	h := locked(t, m)
	for _, reason := range []string{"line\nbreak", strings.Repeat("x", 257), "\xff"} {
		_, err := m.ForceRelease(within(t), reason)
		isAll(t, err, core.ErrInvalid)
		if err != nil && !strings.Contains(err.Error(), "reason") {
			t.Errorf("%v does not name the field", err)
		}
	}
	unlock(t, h)
}

// TestDeletedGrant checks what an operator's del does: the owner learns that
// its key was deleted, and those who wait are served.
func TestDeletedGrant(t *testing.T) {
	for kind, opts := range map[string][]lock.Option{"plain": nil, "delayed": {lock.WithLockDelay(time.Hour)}} {
		t.Run(kind, func(t *testing.T) {
			name := "deleted-" + kind
			s := session(t)
			h := locked(t, lock.NewMutex(session(t), name, opts...))
			next := locking(t, lock.NewMutex(s, name))
			waiting(t, lock.NewMutex(s, name), 1)
			must[*clientv3.DeleteResponse](t)(s.Client().Delete(within(t), "/conclave/default/lock/"+name+"/grant"))
			isAll(t, ended(t, h), lock.ErrLost, core.ErrKeyDeleted)
			n := next.get(t)
			growing(t, h, n)
			isAll(t, h.Unlock(), lock.ErrLost, core.ErrKeyDeleted)
			unlock(t, n)
			nothingLeft(t, name)
		})
	}
}

// TestDeletedTicket checks that a wait whose place was deleted ends with the
// reason, and that the line goes on.
func TestDeletedTicket(t *testing.T) {
	s := session(t)
	m := lock.NewMutex(s, "deleted-ticket")
	h := locked(t, m)
	c := locking(t, lock.NewMutex(session(t), "deleted-ticket"))
	waiting(t, m, 1)
	behind := locking(t, lock.NewMutex(session(t), "deleted-ticket"))
	waiting(t, m, 2)
	tickets := etcd.Dump(t, "/conclave/default/lock/deleted-ticket/line/")
	slices.SortFunc(tickets, func(a, b *mvccpb.KeyValue) int { return cmp.Compare(a.CreateRevision, b.CreateRevision) })
	must[*clientv3.DeleteResponse](t)(s.Client().Delete(within(t), string(tickets[0].Key)))
	_, err := c.result(t)
	isAll(t, err, core.ErrKeyDeleted)
	unlock(t, h)
	unlock(t, behind.get(t))
	nothingLeft(t, "deleted-ticket")
}
