package core_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/commit"
)

// lender returns a lender, as a host has one, and its client.
func lender(tb testing.TB, dial ...grpc.DialOption) (*core.Lender, *clientv3.Client) {
	tb.Helper()
	c := etcd.Client(tb, dial...)
	l := core.NewLender(c)
	tb.Cleanup(l.Close)
	return l, c
}

// loanOf is what a host knows of its caller's session.
func loanOf(s *core.Session) core.Loan {
	return core.Loan{Lease: s.Lease(), TTL: s.TTL(), Owner: s.Owner(), Namespace: s.Namespace()}
}

func borrow(tb testing.TB, l *core.Lender, loan core.Loan) *core.Session {
	tb.Helper()
	s, err := l.Session(loan)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestSessionsOfOneLeaseAreOne(t *testing.T) {
	l, c := lender(t)
	owner := open(t, c, core.WithOwner("caller"))
	one, two := borrow(t, l, loanOf(owner)), borrow(t, l, loanOf(owner))
	if one != two {
		t.Error("two sessions on one lease")
	}
	if one.Lease() != owner.Lease() || one.Owner() != "caller" || one.Namespace() != "default" || one.TTL() != owner.TTL() {
		t.Errorf("not the session that was lent: %x %q %q %v", one.Lease(), one.Owner(), one.Namespace(), one.TTL())
	}
	if one.State() != core.Active || one.Remaining() != owner.TTL() || one.Context().Err() != nil {
		t.Errorf("state %v, remaining %v, %v", one.State(), one.Remaining(), one.Context().Err())
	}
	other := loanOf(owner)
	other.Namespace = "elsewhere"
	if borrow(t, l, other) == one {
		t.Error("one session for two namespaces")
	}
	runtime.KeepAlive(two)
}

func TestBadLoans(t *testing.T) {
	l, _ := lender(t)
	good := core.Loan{Lease: 1, TTL: 5 * time.Second, Owner: "o", Namespace: "default"}
	for field, loan := range map[string]func(*core.Loan){
		"lease":     func(b *core.Loan) { b.Lease = 0 },
		"ttl":       func(b *core.Loan) { b.TTL = 0 },
		"owner":     func(b *core.Loan) { b.Owner = strings.Repeat("x", 256) },
		"namespace": func(b *core.Loan) { b.Namespace = "a/b" },
	} {
		bad := good
		loan(&bad)
		if _, err := l.Session(bad); !errors.Is(err, core.ErrInvalid) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestClosingABorrowedSessionLeavesTheLease(t *testing.T) {
	l, c := lender(t)
	owner := open(t, c)
	key := etcd.Prefix(t)
	put(t, c, key, owner.Lease())
	s := borrow(t, l, loanOf(owner))
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if cause := ended(t, s.Context()); !errors.Is(cause, core.ErrSessionClosed) {
		t.Errorf("it ended with %v", cause)
	}
	again := borrow(t, l, loanOf(owner))
	if again == s || again.Context().Err() != nil {
		t.Error("the next one to ask gets the session that was closed")
	}
	again.Orphan()
	l.Close()
	if left, _ := leaseTTL(t, owner.Lease()); left <= 0 || len(etcd.Dump(t, key)) != 1 || owner.Context().Err() != nil {
		t.Error("the lease went with it")
	}
}

func TestClosedLenderLendsNothing(t *testing.T) {
	l, c := lender(t)
	owner := open(t, c)
	s := borrow(t, l, loanOf(owner))
	l.Close()
	l.Close()
	if cause := ended(t, s.Context()); !errors.Is(cause, core.ErrSessionClosed) {
		t.Errorf("it ended with %v", cause)
	}
	if _, err := l.Session(loanOf(owner)); !errors.Is(err, core.ErrSessionClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestBorrowedSessionEndsWhenEtcdSaysThatTheLeaseIsGone(t *testing.T) {
	l, c := lender(t)
	owner := open(t, c)
	s := borrow(t, l, loanOf(owner))
	if s.Engine().LeaseGone(within(t)) || s.Context().Err() != nil {
		t.Fatal("gone although it stands")
	}
	coretest.ExpireLease(t, c, owner.Lease())
	if !s.Engine().LeaseGone(within(t)) {
		t.Fatal("it stands although it is gone")
	}
	if cause := ended(t, s.Context()); !errors.Is(cause, core.ErrSessionExpired) {
		t.Errorf("it ended with %v", cause)
	}
	if err := s.Close(); !errors.Is(err, core.ErrSessionExpired) {
		t.Errorf("Close: %v", err)
	}
}

// do sends one transaction that puts key on the session's lease.
func do(tb testing.TB, s *core.Session, key string) error {
	_, err := s.Engine().Do(within(tb), onLease(s, key))
	return err
}

func onLease(s *core.Session, key string) commit.Txn {
	return commit.Txn{Scope: []string{key}, Then: []clientv3.Op{clientv3.OpPut(key, "v", clientv3.WithLease(s.Lease()))}}
}

func TestRequestsOfAllSessionsTravelTogetherAndFailAlone(t *testing.T) {
	faults := coretest.NewFaults()
	l, c := lender(t, faults.DialOptions()...)
	prefix := etcd.Prefix(t)
	const n = 20
	sessions := make([]*core.Session, n)
	for i := range sessions {
		owner := open(t, etcd.Client(t))
		sessions[i] = borrow(t, l, loanOf(owner))
		if i == n/2 {
			coretest.ExpireLease(t, c, owner.Lease())
		}
	}
	// As many requests as travel at once wait at the door, so that the others gather.
	hold := faults.Hold(coretest.Puts(prefix+"/first"), coretest.Times(2))
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { _ = do(t, sessions[0], fmt.Sprintf("%s/first%d", prefix, i)) })
		if err := hold.WaitTimes(within(t), i+1); err != nil {
			t.Fatal(err)
		}
	}
	errs := make([]error, n)
	for i, s := range sessions {
		wg.Add(1)
		s.Engine().Submit(nil, func() commit.Txn { return onLease(s, fmt.Sprintf("%s/%03d", prefix, i)) },
			func(_ commit.Result, err error) { errs[i] = err; wg.Done() })
	}
	before := etcd.RaftIndex(t)
	hold.Release()
	wg.Wait()
	for i, err := range errs {
		if (i == n/2) != errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Errorf("session %d: %v", i, err)
		}
	}
	// The batch was refused because of one of them, and repeated one by one.
	if cost := etcd.RaftIndex(t) - before; cost > n+6 {
		t.Errorf("%d raft entries", cost)
	}
}

func TestUnusedSessionsGo(t *testing.T) {
	l, c := lender(t)
	owner := open(t, c)
	if err := do(t, borrow(t, l, loanOf(owner)), etcd.Prefix(t)); err != nil {
		t.Fatal(err)
	}
	for ctx := within(t); core.Lent(l) > 0; runtime.GC() {
		if ctx.Err() != nil {
			t.Fatal("it is kept")
		}
	}
	if err := do(t, borrow(t, l, loanOf(owner)), etcd.Prefix(t)); err != nil {
		t.Errorf("the next one: %v", err)
	}
}

func TestTenThousandIdleSessionsAreCheap(t *testing.T) {
	l, _ := lender(t)
	const n = 10_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	sessions := make([]*core.Session, n)
	for i := range sessions {
		sessions[i] = borrow(t, l, core.Loan{Lease: clientv3.LeaseID(i + 1), TTL: 15 * time.Second, Owner: "someone", Namespace: "default"})
	}
	if more := runtime.NumGoroutine() - goroutines; more > 10 {
		t.Errorf("%d goroutines for %d sessions", more, n)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (after.HeapAlloc - before.HeapAlloc) / n
	t.Logf("%d bytes for a session", per)
	if per > 4096 {
		t.Errorf("%d bytes for a session", per)
	}
	runtime.KeepAlive(sessions)
}
