package engine_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/engine"
)

func put(key string) commit.Txn {
	return commit.Txn{Scope: []string{key}, Then: []clientv3.Op{clientv3.OpPut(key, "v")}}
}

var errEnough = errors.New("enough")

func TestDoWithAnEndedContextSendsNothing(t *testing.T) {
	e, _ := newEngine(t, etcd.Client(t))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errEnough)
	for range 20 {
		if _, err := e.Do(ctx, put(t.Name())); !errors.Is(err, errEnough) || errors.Is(err, commit.ErrUnknown) {
			t.Fatalf("Do: %v", err)
		}
	}
	e.Close(within(t))
	if len(etcd.Dump(t, t.Name())) != 0 {
		t.Error("it was sent")
	}
}

func TestDoSaysWhetherItWasSent(t *testing.T) {
	faults := coretest.NewFaults()
	e, _ := newEngine(t, etcd.Client(t, faults.DialOptions()...))
	prefix := etcd.Prefix(t)
	// One is under way, and one waits for it.
	hold := faults.Hold(coretest.Puts(prefix), coretest.Times(1))
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := e.Do(ctx, put(prefix+"/a"))
		result <- err
	}()
	if err := hold.WaitTimes(within(t), 1); err != nil {
		t.Fatal(err)
	}
	waits, stop := context.WithCancelCause(t.Context())
	waiting := make(chan error, 1)
	go func() {
		_, err := e.Do(waits, put(prefix+"/b"))
		waiting <- err
	}()
	stop(errEnough)
	if err := <-waiting; !errors.Is(err, errEnough) || errors.Is(err, commit.ErrUnknown) {
		t.Errorf("before it was sent: %v", err)
	}
	cancel(errEnough)
	if err := <-result; !errors.Is(err, errEnough) || !errors.Is(err, commit.ErrUnknown) {
		t.Errorf("after it was sent: %v, want ErrUnknown", err)
	}
	hold.Release()
	e.Close(within(t))
	if kvs := etcd.Dump(t, prefix+"/b"); len(kvs) != 0 {
		t.Error("what Do said was not sent is in etcd")
	}
}

func TestCloseWaitsForCallsAndWork(t *testing.T) {
	e, _ := newEngine(t, etcd.Client(t))
	if !e.Enter() {
		t.Fatal("no entry before Close")
	}
	release, worked := make(chan struct{}), make(chan struct{})
	e.Go(func(context.Context) {
		<-release
		e.Go(func(ctx context.Context) { // work may lead to more work
			defer close(worked)
			if ctx.Err() != nil {
				t.Error("the work was cut short")
			}
			if _, err := e.Do(ctx, put(t.Name())); err != nil {
				t.Errorf("Do while closing: %v", err)
			}
		})
	})
	e.Leave()
	var closers sync.WaitGroup
	closed := make(chan struct{})
	for range 3 {
		closers.Go(func() { e.Close(within(t)) })
	}
	go func() {
		closers.Wait()
		close(closed)
	}()
	// Close has begun when nobody may enter.
	for e.Enter() {
		e.Leave()
	}
	select {
	case <-closed:
		t.Fatal("Close did not wait")
	default:
	}
	close(release)
	over(t, "Close returned", closed)
	over(t, "the work ended", worked)
	if e.Enter() {
		t.Error("entry after Close")
	}
	if e.Context().Err() == nil {
		t.Error("the engine's context goes on")
	}
}

func TestCloseWithoutTimeCutsShort(t *testing.T) {
	faults := coretest.NewFaults()
	e, _ := newEngine(t, etcd.Client(t, faults.DialOptions()...))
	hold := faults.Hold(coretest.Puts(t.Name()))
	e.Enter()
	e.Go(func(ctx context.Context) { <-ctx.Done() })
	done := make(chan error, 1)
	e.Go(func(context.Context) {
		_, err := e.Do(context.Background(), put(t.Name()))
		done <- err
	})
	e.Leave()
	if err := hold.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e.Close(ctx)
	if err := <-done; !errors.Is(err, commit.ErrUnknown) {
		t.Errorf("a request under way: %v", err)
	}
}

// closer counts how often it is closed, and uses its engine for it.
type closer struct {
	closed int
	engine *engine.Engine
}

func (c *closer) Close() {
	c.closed++
	c.engine.Enter()
}

func TestSharedIsMadeOnceAndClosedOnce(t *testing.T) {
	e, _ := newEngine(t, etcd.Client(t))
	type key struct{}
	var all sync.WaitGroup
	var mu sync.Mutex
	made, got := 0, map[any]bool{}
	for range 16 {
		all.Go(func() {
			v := e.Shared(key{}, func() any { made++; return &closer{engine: e} })
			mu.Lock()
			defer mu.Unlock()
			got[v] = true
		})
	}
	all.Wait()
	if made != 1 || len(got) != 1 {
		t.Errorf("made %d times, %d values", made, len(got))
	}
	v := e.Shared(key{}, nil).(*closer)
	e.Close(within(t))
	e.Close(within(t))
	if v.closed != 1 {
		t.Errorf("closed %d times", v.closed)
	}
}

func TestIDsAreNeverRepeated(t *testing.T) {
	c := etcd.Client(t)
	a, _ := newEngine(t, c)
	b := engine.New(engine.Config{Client: c, Lease: a.Lease(), TTL: ttl}) // a later one on the same lease
	t.Cleanup(func() { b.Close(within(t)) })
	seen := map[string]bool{}
	for range 100 {
		for _, e := range []*engine.Engine{a, b} {
			id := e.NewID()
			if seen[id] || !strings.HasPrefix(id, e.IDPrefix()) {
				t.Fatalf("id %q again, or without its prefix %q", id, e.IDPrefix())
			}
			seen[id] = true
		}
	}
	if a.IDPrefix() == b.IDPrefix() {
		t.Error("two engines share a prefix")
	}
}

func TestLeaseGone(t *testing.T) {
	faults := coretest.NewFaults()
	c := etcd.Client(t, faults.DialOptions()...)
	e, gone := newEngine(t, c)
	if e.LeaseGone(within(t)) {
		t.Error("a lease that stands")
	}
	coretest.ExpireLease(t, etcd.Client(t), e.Lease())
	faults.LoseReply(coretest.Method("LeaseTimeToLive"), coretest.Silently(), coretest.Times(1))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if e.LeaseGone(ctx) || len(gone) != 0 {
		t.Error("an error counts as gone")
	}
	if !e.LeaseGone(within(t)) || len(gone) != 1 {
		t.Errorf("a lease that is gone: told %d times", len(gone))
	}
}

func TestRenew(t *testing.T) {
	c := etcd.Client(t)
	e, _ := newEngine(t, c)
	for name, client := range map[string]*clientv3.Client{"over gRPC": c, "in process": etcd.Member().Client()} {
		if s, err := engine.Renew(within(t), client, e.Lease()); err != nil || s != int64(ttl/time.Second) {
			t.Errorf("%s: %d s, %v", name, s, err)
		}
	}
	coretest.ExpireLease(t, c, e.Lease())
	for name, client := range map[string]*clientv3.Client{"over gRPC": c, "in process": etcd.Member().Client()} {
		if _, err := engine.Renew(within(t), client, e.Lease()); !errors.Is(err, rpctypes.ErrLeaseNotFound) {
			t.Errorf("%s, after the lease: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := engine.Renew(ctx, c, e.Lease()); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

func TestRenewOverABrokenLinkFailsAtOnce(t *testing.T) {
	link := etcd.Link(t)
	e, _ := newEngine(t, coretest.Dial(t, link.Endpoint()))
	link.Cut()
	// The client's own call would repeat itself until the context ends.
	if _, err := engine.Renew(within(t), e.Client(), e.Lease()); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("over a cut link: %v", err)
	}
}
