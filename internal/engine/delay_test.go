package engine_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/coretest"
)

func granted(t *testing.T, id clientv3.LeaseID) (left, ttl int64) {
	t.Helper()
	resp, err := etcd.Client(t).TimeToLive(within(t), id)
	if err != nil {
		t.Fatal(err)
	}
	return resp.TTL, resp.GrantedTTL
}

func TestDelayLeaseIsOnePerDelay(t *testing.T) {
	e, _ := newEngine(t, etcd.Client(t))
	var all sync.WaitGroup
	var mu sync.Mutex
	var ids []clientv3.LeaseID
	for range 8 {
		all.Go(func() {
			id, err := e.DelayLease(within(t), 5*time.Second)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, id)
		})
	}
	all.Wait()
	slices.Sort(ids)
	if ids = slices.Compact(ids); len(ids) != 1 {
		t.Fatalf("leases %x for one delay", ids)
	}
	other, err := e.DelayLease(within(t), 7*time.Second)
	if err != nil || other == ids[0] || ids[0] == e.Lease() {
		t.Errorf("lease %x for another delay, %v", other, err)
	}
	if _, ttl := granted(t, ids[0]); ttl != 25 {
		t.Errorf("granted %d s, want the session's 20 and the delay's 5", ttl)
	}
	if err := e.RevokeDelays(within(t)); err != nil {
		t.Fatal(err)
	}
	for _, id := range []clientv3.LeaseID{ids[0], other} {
		if left, _ := granted(t, id); left != -1 {
			t.Errorf("lease %x has %d s left", id, left)
		}
	}
}

func TestARenewalDoesNotWaitForAGrant(t *testing.T) {
	faults := coretest.NewFaults()
	e, _ := newEngine(t, etcd.Client(t, faults.DialOptions()...))
	hold := faults.Hold(coretest.Method("LeaseGrant"))
	answer := make(chan error, 1)
	go func() {
		_, err := e.DelayLease(context.Background(), 5*time.Second)
		answer <- err
	}()
	if err := hold.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := e.RenewDelays(within(t)); err != nil {
		t.Errorf("RenewDelays: %v", err)
	}
	hold.Release()
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

func TestRenewDelaysForgetsALeaseThatIsGone(t *testing.T) {
	e, _ := newEngine(t, etcd.Client(t))
	first, err := e.DelayLease(within(t), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.RenewDelays(within(t)); err != nil {
		t.Fatal(err)
	}
	coretest.ExpireLease(t, etcd.Client(t), first)
	if err := e.RenewDelays(within(t)); err != nil {
		t.Errorf("RenewDelays with a lease that is gone: %v", err)
	}
	if second, err := e.DelayLease(within(t), 5*time.Second); err != nil || second == first {
		t.Errorf("lease %x after %x, %v", second, first, err)
	}
}

func TestRenewDelaysFailsWithItsContext(t *testing.T) {
	link := etcd.Link(t)
	e, _ := newEngine(t, coretest.Dial(t, link.Endpoint()))
	if _, err := e.DelayLease(within(t), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	link.Blackhole(coretest.ToClient)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.RenewDelays(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("RenewDelays into a black hole: %v", err)
	}
	link.Cut()
}
