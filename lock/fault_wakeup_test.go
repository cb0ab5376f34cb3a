package lock_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

// The counter-examples that lose a wake-up. Their sessions have a TTL beyond
// the tests' patience, so that the safety net, a look once per TTL, cannot hide
// what is missing.

func patient() core.SessionOption { return core.WithTTL(4 * patience) }

// A watchGate sees the registrations of watches whose key contains a text: it
// says when the n-th has come, and holds it, and later ones, until it is opened.
type watchGate struct {
	text string
	met  chan struct{}
	open chan struct{}

	mu sync.Mutex
	n  int
}

func newWatchGate(text string, n int) *watchGate {
	return &watchGate{text: text, n: n, met: make(chan struct{}), open: make(chan struct{})}
}

// session opens a session whose watches go through the gate.
func (g *watchGate) session(tb testing.TB) *core.Session {
	tb.Helper()
	gated := grpc.WithChainStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := streamer(ctx, d, cc, method, opts...)
		return &gatedStream{s, g}, err
	})
	s, err := core.NewSession(within(tb), etcd.Client(tb, gated), patient())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// wait returns when the n-th registration has come.
func (g *watchGate) wait(tb testing.TB) {
	tb.Helper()
	select {
	case <-g.met:
	case <-within(tb).Done():
		tb.Fatalf("nobody watched a key with %q", g.text)
	}
}

func (g *watchGate) pass(ctx context.Context) {
	g.mu.Lock()
	g.n--
	n := g.n
	g.mu.Unlock()
	if n == 0 {
		close(g.met)
	}
	if n <= 0 {
		select {
		case <-g.open:
		case <-ctx.Done():
		}
	}
}

type gatedStream struct {
	grpc.ClientStream
	g *watchGate
}

func (s *gatedStream) SendMsg(m any) error {
	if w, ok := m.(*pb.WatchRequest); ok && strings.Contains(string(w.GetCreateRequest().GetKey()), s.g.text) {
		s.g.pass(s.Context())
	}
	return s.ClientStream.SendMsg(m)
}

// blockers is the key that keeps each kind from owning, when a rival owns.
var blockers = map[string]string{"mutex": "/grant", "read": "/grant", "write": "/read/", "permit": "/hold/", "permits": "/hold/", "multi": "/grant"}

// C5: what blocks a waiter goes between its look and the registration of its
// watch. The watch begins after the look, hence sees it.
func TestC5OwnerDiesBetweenLookAndWatch(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		dead := session(t, patient())
		acquired(t, kindOf(k.rival).lock(dead, name))
		g := newWatchGate(blockers[k.name], 1)
		waiter := background(t, within(t), k.lock(g.session(t), name))
		g.wait(t)
		expire(t, dead)
		close(g.open)
		released(t, served(t, waiter))
		cleanedUp(t, name)
	})
}

// A waiter that has looked, and sleeps on what blocks it, is served as well.
func TestHandoverAfterTheLook(t *testing.T) {
	forKinds(t, func(t *testing.T, k kind, name string) {
		owner := acquired(t, kindOf(k.rival).lock(session(t, patient()), name))
		g := newWatchGate(blockers[k.name], 1)
		waiter := background(t, within(t), k.lock(g.session(t), name))
		g.wait(t)
		close(g.open)
		released(t, owner)
		released(t, served(t, waiter))
		cleanedUp(t, name)
	})
}

// C10: two sessions take permits on the same view of who holds how many.
func TestC10PermitsOnAnOldView(t *testing.T) {
	name := etcd.Prefix(t)
	first := must[*lock.Permit](t)(lock.NewSemaphore(session(t), name, 2).Acquire(within(t), 1))
	s, f := faulty(t)
	held := f.Hold(tryRequest)
	defer held.Release()
	slow := make(chan error, 1)
	go func() {
		_, err := lock.NewSemaphore(s, name, 2).TryAcquire(within(t), 1)
		slow <- err
	}()
	fired(t, held)
	second := must[*lock.Permit](t)(lock.NewSemaphore(session(t), name, 2).TryAcquire(within(t), 1))
	held.Release()
	if err := <-slow; !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("error %v, want ErrLocked: a third of two permits", err)
	}
	for _, p := range []*lock.Permit{first, second} {
		if err := p.Release(); err != nil {
			t.Fatal(err)
		}
	}
	cleanedUp(t, name)
}

// permitsOf acquires n of limit permits in a session of its own.
func permitsOf(t *testing.T, name string, limit, n int) (*core.Session, *ownership) {
	t.Helper()
	s := session(t, patient())
	return s, acquired(t, ofPermit(n, lock.NewSemaphore(s, name, limit).Acquire))
}

// C11: no single release makes room for the first in line, but two do.
func TestC11ReleasesThatMakeRoomTogether(t *testing.T) {
	name := etcd.Prefix(t)
	_, a := permitsOf(t, name, 3, 1)
	_, b := permitsOf(t, name, 3, 1)
	_, c := permitsOf(t, name, 3, 1)
	waiter := background(t, within(t), ofPermit(2, lock.NewSemaphore(session(t, patient()), name, 3).Acquire))
	tickets(t, name, 1)
	released(t, a)
	released(t, b)
	w := served(t, waiter)
	released(t, w)
	released(t, c)
	cleanedUp(t, name)
}

// C12: the first in line claims, and the second fits beside it.
func TestC12SecondInLineFitsBesideTheFirst(t *testing.T) {
	name := etcd.Prefix(t)
	dead, _ := permitsOf(t, name, 2, 2)
	first := background(t, within(t), ofPermit(1, lock.NewSemaphore(session(t, patient()), name, 2).Acquire))
	tickets(t, name, 1)
	// The second one has looked, and sleeps on the first one's ticket: the first
	// watch in the line is the one on its own tickets.
	g := newWatchGate("/line/", 2)
	second := background(t, within(t), ofPermit(1, lock.NewSemaphore(g.session(t), name, 2).Acquire))
	g.wait(t)
	close(g.open)
	expire(t, dead)
	a, b := served(t, first), served(t, second)
	released(t, a)
	released(t, b)
	cleanedUp(t, name)
}

// C13: a writer that had a ticket downgrades. Readers behind it get in.
func TestC13DowngradeLetsReadersIn(t *testing.T) {
	name := etcd.Prefix(t)
	first := locked(t, lock.NewMutex(session(t, patient()), name))
	writer := background(t, within(t), kindOf("write").lock(session(t, patient()), name))
	tickets(t, name, 1)
	unlock(t, first)
	w := served(t, writer)
	var readers []<-chan result
	for i := range 3 {
		readers = append(readers, background(t, within(t), kindOf("read").lock(session(t, patient()), name)))
		tickets(t, name, i+1)
	}
	r := must[*lock.Held](t)(w.Ownership.(*lock.Held).Downgrade(within(t)))
	if r.Token() <= w.Token() {
		t.Fatalf("token %d after %d", r.Token(), w.Token())
	}
	for _, c := range readers {
		released(t, served(t, c))
	}
	unlock(t, r)
	cleanedUp(t, name)
}
