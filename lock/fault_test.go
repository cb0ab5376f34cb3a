package lock_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/keyspace"
	"github.com/conclavehq/conclave/lock"
)

// The tests in fault_*_test.go break one request, one connection or one key at
// a time, and then ask for the same things: at most one owner at any time,
// waiters that are served, and no key left behind but the void records of
// sessions that still live.

// faulty opens a session whose requests a test can lose, delay or hold.
func faulty(tb testing.TB, opts ...core.SessionOption) (*core.Session, *coretest.Faults) {
	tb.Helper()
	f := coretest.NewFaults()
	s, err := core.NewSession(within(tb), etcd.Client(tb, f.DialOptions()...), opts...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		f.Clear()
		_ = s.Close()
	})
	return s, f
}

// The requests of the protocol, told apart by what they compare and write.
var (
	grantsTo = anyOf(coretest.Puts("/grant"), coretest.Puts("/read/"), coretest.Puts("/hold/"))

	tryRequest    = coretest.All(grantsTo, coretest.Not(coretest.Puts("/line/")), coretest.Not(coretest.Deletes("/line/")), coretest.Not(asOwner))
	enterRequest  = coretest.All(coretest.Compares("/void/"), coretest.Puts("/line/"), coretest.Not(coretest.Deletes("/line/")))
	lookRequest   = coretest.All(coretest.Reads("/line/"), coretest.Not(coretest.Puts("")), coretest.Not(coretest.Deletes("")))
	claimRequest  = coretest.All(coretest.Puts("/line/"), coretest.Not(coretest.Compares("/void/")), coretest.Not(coretest.Deletes("/line/")))
	cancelRequest = coretest.All(coretest.Deletes("/line/"), coretest.Not(asOwner))
	voidRequest   = coretest.All(coretest.Puts("/void/"), coretest.Not(coretest.Compares("")))
	passRequest   = coretest.All(asOwner, anyOf(coretest.Deletes("/conclave/"), grantsTo))
)

// asOwner matches transactions that compare the revision of a grant.
func asOwner(_ string, req any) bool {
	t, ok := req.(*pb.TxnRequest)
	return ok && comparesGrant(t)
}

func comparesGrant(t *pb.TxnRequest) bool {
	for _, c := range t.Compare {
		key := string(c.Key)
		if c.Target == pb.Compare_MOD && c.Result == pb.Compare_EQUAL &&
			(strings.HasSuffix(key, "/grant") || len(c.RangeEnd) > 0 || strings.Contains(key, "/read/") || strings.Contains(key, "/hold/")) {
			return true
		}
	}
	for _, op := range slices.Concat(t.Success, t.Failure) {
		if nested := op.GetRequestTxn(); nested != nil && comparesGrant(nested) {
			return true
		}
	}
	return false
}

func anyOf(ms ...coretest.Match) coretest.Match {
	return func(method string, req any) bool {
		return slices.ContainsFunc(ms, func(m coretest.Match) bool { return m(method, req) })
	}
}

// ownership is what an acquisition of any kind of lock returns.
type ownership struct {
	core.Ownership
	release func() error
	commit  func(context.Context, ...clientv3.Op) (*clientv3.TxnResponse, error)
}

// kind is one kind of lock, so that a test can treat all alike.
type kind struct {
	name  string
	lock  func(s *core.Session, name string) func(context.Context) (*ownership, error)
	try   func(s *core.Session, name string) func(context.Context) (*ownership, error)
	rival string // the kind that excludes this one
}

func ofHeld(f func(context.Context) (*lock.Held, error)) func(context.Context) (*ownership, error) {
	return func(ctx context.Context) (*ownership, error) {
		h, err := f(ctx)
		if err != nil {
			return nil, err
		}
		return &ownership{h, h.Unlock, h.Commit}, nil
	}
}

func ofPermit(n int, f func(context.Context, int) (*lock.Permit, error)) func(context.Context) (*ownership, error) {
	return func(ctx context.Context) (*ownership, error) {
		p, err := f(ctx, n)
		if err != nil {
			return nil, err
		}
		return &ownership{p, p.Release, p.Commit}, nil
	}
}

type acquirer = func(context.Context) (*ownership, error)

func permitKind(name string, n int) kind {
	return kind{name: name, rival: name,
		lock: func(s *core.Session, l string) acquirer { return ofPermit(n, lock.NewSemaphore(s, l, n).Acquire) },
		try:  func(s *core.Session, l string) acquirer { return ofPermit(n, lock.NewSemaphore(s, l, n).TryAcquire) },
	}
}

func namesOf(name string) []string { return []string{name + "-b", name + "-a"} }

var kinds = []kind{
	{name: "mutex", rival: "mutex",
		lock: func(s *core.Session, l string) acquirer { return ofHeld(lock.NewMutex(s, l).Lock) },
		try:  func(s *core.Session, l string) acquirer { return ofHeld(lock.NewMutex(s, l).TryLock) }},
	{name: "write", rival: "read",
		lock: func(s *core.Session, l string) acquirer { return ofHeld(lock.NewRWMutex(s, l).Lock) },
		try:  func(s *core.Session, l string) acquirer { return ofHeld(lock.NewRWMutex(s, l).TryLock) }},
	{name: "read", rival: "write",
		lock: func(s *core.Session, l string) acquirer { return ofHeld(lock.NewRWMutex(s, l).RLock) },
		try:  func(s *core.Session, l string) acquirer { return ofHeld(lock.NewRWMutex(s, l).TryRLock) }},
	permitKind("permit", 2),
	permitKind("permits", 3),
	{name: "multi", rival: "multi",
		lock: func(s *core.Session, l string) acquirer { return ofHeld(lock.NewMulti(s, namesOf(l)).Lock) },
		try:  func(s *core.Session, l string) acquirer { return ofHeld(lock.NewMulti(s, namesOf(l)).TryLock) }},
}

func kindOf(name string) kind {
	return kinds[slices.IndexFunc(kinds, func(k kind) bool { return k.name == name })]
}

// forKinds runs f for every kind of lock, on a name of its own.
func forKinds(t *testing.T, f func(t *testing.T, k kind, name string)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			f(t, k, etcd.Prefix(t))
		})
	}
}

// acquired waits for an ownership.
func acquired(tb testing.TB, f acquirer) *ownership {
	tb.Helper()
	return must[*ownership](tb)(f(within(tb)))
}

// result is what an acquisition in the background came to.
type result struct {
	own *ownership
	err error
}

// background acquires in a goroutine that ends before the test does.
func background(tb testing.TB, ctx context.Context, f acquirer) <-chan result {
	results := make(chan result, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		o, err := f(ctx)
		results <- result{o, err}
	}()
	tb.Cleanup(func() { <-done })
	return results
}

// served waits for a background acquisition to own.
func served(tb testing.TB, results <-chan result) *ownership {
	tb.Helper()
	r := outcome(tb, results)
	if r.err != nil {
		tb.Fatalf("not served: %v", r.err)
	}
	return r.own
}

// outcome waits for a background acquisition to end.
func outcome(tb testing.TB, results <-chan result) result {
	tb.Helper()
	select {
	case r := <-results:
		return r
	case <-within(tb).Done():
		tb.Fatal("an acquisition hangs")
		return result{}
	}
}

// released gives an ownership back.
func released(tb testing.TB, o *ownership) {
	tb.Helper()
	if err := o.release(); err != nil {
		tb.Fatalf("release: %v", err)
	}
}

// stillOwns asks the context, and etcd.
func stillOwns(tb testing.TB, o *ownership) {
	tb.Helper()
	if o.Context().Err() != nil {
		tb.Fatalf("the owner's context has ended: %v", context.Cause(o.Context()))
	}
	if _, err := o.commit(within(tb), clientv3.OpGet("x")); err != nil {
		tb.Fatalf("the owner's guarded transaction: %v", err)
	}
}

// left lists the keys under all names that begin with name, but for void records
// and the notices of forced releases: both go with the session they concern.
func left(tb testing.TB, name string) []string {
	tb.Helper()
	var keys []string
	for _, kv := range etcd.Dump(tb, keyOf(name)) {
		if key := string(kv.Key); !strings.Contains(key, "/void/") && !strings.Contains(key, "/notice/") {
			keys = append(keys, string(kv.Key))
		}
	}
	return keys
}

// voids counts the void records under all names that begin with name.
func voids(tb testing.TB, name string) int {
	tb.Helper()
	n := 0
	for _, kv := range etcd.Dump(tb, keyOf(name)) {
		if strings.Contains(string(kv.Key), "/void/") {
			n++
		}
	}
	return n
}

// keyOf is how the keys of a name begin, without the delimiter.
func keyOf(name string) string {
	return "/conclave/default/lock/" + keyspace.Escape(name)
}

// cleanedUp waits until no key but void records stands under name.
func cleanedUp(tb testing.TB, name string) {
	tb.Helper()
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("left: %q", left(tb, name))
		}
	})
	eventually(tb, "nothing left under "+name, func() bool { return len(left(tb, name)) == 0 })
}

// tickets waits until n tickets wait in line under name: they were put once.
func tickets(tb testing.TB, name string, n int) {
	tb.Helper()
	eventually(tb, "tickets in line", func() bool { return len(inLine(tb, name)) == n })
}

// inLine returns the keys of the tickets that wait.
func inLine(tb testing.TB, name string) []string {
	tb.Helper()
	var keys []string
	for _, kv := range etcd.Dump(tb, keyOf(name)) {
		if strings.Contains(string(kv.Key), "/line/") && kv.Version == 1 {
			keys = append(keys, string(kv.Key))
		}
	}
	return keys
}

// delete removes a key by hand, as an operator might.
func remove(tb testing.TB, key string) {
	tb.Helper()
	if _, err := etcd.Client(tb).Delete(within(tb), key); err != nil {
		tb.Fatal(err)
	}
}

// fired waits until a fault has met its request.
func fired(tb testing.TB, f interface{ Wait(context.Context) error }) {
	tb.Helper()
	if err := f.Wait(within(tb)); err != nil {
		tb.Fatalf("the request never came: %v", err)
	}
}

// expire ends a session's lease in etcd.
func expire(tb testing.TB, s *core.Session) {
	tb.Helper()
	coretest.ExpireLease(tb, etcd.Client(tb), s.Lease())
}
