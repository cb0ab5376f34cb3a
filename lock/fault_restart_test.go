package lock_test

import (
	"context"
	"net/url"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
)

// restartable is a member that stops and starts on the same directory and port.
type restartable struct {
	config embedded.Config
	member *embedded.Member
}

func startMember(t *testing.T) *restartable {
	t.Helper()
	r := &restartable{config: embedded.Config{Name: "restarted", DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		Fast: true, NoFsync: true}}
	r.start(t)
	u, err := url.Parse(r.member.Endpoints()[0])
	if err != nil {
		t.Fatal(err)
	}
	r.config.ClientAddr = u.Host
	t.Cleanup(func() {
		if err := r.member.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *restartable) start(t *testing.T) {
	t.Helper()
	r.member = must[*embedded.Member](t)(embedded.Start(within(t), r.config))
}

func (r *restartable) stop(t *testing.T) {
	t.Helper()
	if err := r.member.Close(); err != nil {
		t.Fatal(err)
	}
}

func (r *restartable) session(t *testing.T) *core.Session {
	t.Helper()
	s, err := core.NewSession(within(t), coretest.Dial(t, r.member.Endpoints()[0]), core.WithTTL(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// keys counts the keys of locks.
func (r *restartable) keys(t *testing.T) int {
	t.Helper()
	got := must[*clientv3.GetResponse](t)(r.member.Client().Get(within(t), keyOf(""), clientv3.WithPrefix()))
	return len(got.Kvs)
}

// etcd stops and starts while locks are held and waited for: owners own on, and
// waiters keep their places and are served.
func TestEtcdRestartsWhileOwningAndWaiting(t *testing.T) {
	t.Parallel()
	r := startMember(t)
	type pair struct {
		k      kind
		owner  *ownership
		waiter <-chan result
	}
	var pairs []pair
	want := 0
	for _, k := range kinds {
		p := pair{k: k, owner: acquired(t, k.lock(r.session(t), k.name))}
		p.waiter = background(t, within(t), kindOf(k.rival).lock(r.session(t), k.name))
		want = r.waitFor(t, want+keysOfPair(k))
		pairs = append(pairs, p)
	}
	r.stop(t)
	r.start(t)
	for _, p := range pairs {
		stillOwns(t, p.owner)
		released(t, p.owner)
		next := served(t, p.waiter)
		if next.Token() <= p.owner.Token() {
			t.Errorf("%s: token %d after %d", p.k.name, next.Token(), p.owner.Token())
		}
		released(t, next)
	}
	r.waitFor(t, 0)
}

// keysOfPair is how many keys an owner of kind k and a waiter of its rival have.
func keysOfPair(k kind) int {
	switch {
	case k.name == "multi":
		return 2 + 1 + 2 // grants, the set's record, tickets
	case k.limit() > 0:
		return 1 + 1 + 1 // hold, limit, ticket
	default:
		return 2
	}
}

func (r *restartable) waitFor(t *testing.T, n int) int {
	t.Helper()
	for ctx := within(t); r.keys(t) != n; {
		if ctx.Err() != nil {
			t.Fatalf("%d keys, want %d", r.keys(t), n)
		}
	}
	return n
}

// A release and a wait that begin while etcd is down end well when it is back.
func TestReleaseAndLockWhileEtcdIsDown(t *testing.T) {
	t.Parallel()
	r := startMember(t)
	owner, other := r.session(t), r.session(t)
	for _, k := range kinds {
		o := acquired(t, k.lock(owner, k.name))
		r.stop(t)
		release := make(chan error, 1)
		go func() { release <- o.release() }()
		waiter := background(t, within(t), kindOf(k.rival).lock(other, k.name))
		cancelled, cancel := context.WithCancel(within(t))
		givenUp := background(t, cancelled, k.lock(other, k.name))
		<-o.Context().Done()
		cancel()
		if r := outcome(t, givenUp); r.err == nil {
			t.Error("owns without etcd")
		}
		r.start(t)
		if err := <-release; err != nil {
			t.Errorf("%s: release: %v", k.name, err)
		}
		next := served(t, waiter)
		released(t, next)
	}
}
