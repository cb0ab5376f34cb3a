package core_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/lock"
)

func leases(t *testing.T) []clientv3.LeaseID {
	t.Helper()
	resp, err := etcd.Client(t).Leases(within(t))
	if err != nil {
		t.Fatal(err)
	}
	var ids []clientv3.LeaseID
	for _, l := range resp.Leases {
		ids = append(ids, l.ID)
	}
	slices.Sort(ids)
	return ids
}

func TestOptionsOutsideTheirLimitsGrantNothing(t *testing.T) {
	c := etcd.Client(t)
	before := leases(t)
	for _, tc := range []struct {
		name string
		opt  core.SessionOption
		want []string // in the message: the field and the limit
	}{
		{"ttl zero", core.WithTTL(0), []string{"ttl", "5s"}},
		{"ttl negative", core.WithTTL(-1), []string{"ttl", "5s"}},
		{"ttl half a second", core.WithTTL(500 * time.Millisecond), []string{"ttl", "5s"}},
		{"ttl below the floor", core.WithTTL(4 * time.Second), []string{"ttl", "5s"}},
		{"ttl above the limit", core.WithTTL(time.Hour + time.Second), []string{"ttl", "1h"}},
		{"ttl not whole", core.WithTTL(7500 * time.Millisecond), []string{"ttl", "whole"}},
		{"owner too long", core.WithOwner(strings.Repeat("x", 256)), []string{"owner", "255"}},
		{"owner not UTF-8", core.WithOwner("a\xffb"), []string{"owner"}},
		{"owner with a control character", core.WithOwner("a\nb"), []string{"owner"}},
		{"namespace empty", core.WithNamespace(""), []string{"namespace"}},
		{"namespace of dots", core.WithNamespace(".."), []string{"namespace"}},
	} {
		_, err := core.NewSession(within(t), c, tc.opt)
		if !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s: error %v, want ErrInvalid", tc.name, err)
			continue
		}
		for _, w := range tc.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: message %q does not name %q", tc.name, err, w)
			}
		}
	}
	if after := leases(t); !slices.Equal(before, after) {
		t.Errorf("leases %x, before %x", after, before)
	}
}

func TestLimitsThemselvesAreAllowed(t *testing.T) {
	c := etcd.Client(t)
	for _, ttl := range []time.Duration{5 * time.Second, time.Hour} {
		s := open(t, c, core.WithTTL(ttl), core.WithOwner(strings.Repeat("x", 255)))
		if _, granted := leaseTTL(t, s.Lease()); time.Duration(granted)*time.Second != ttl || s.TTL() != ttl {
			t.Errorf("granted %d s, session says %v, want %v", granted, s.TTL(), ttl)
		}
	}
	s := open(t, c)
	if s.TTL() != 15*time.Second || s.Namespace() != "default" || s.Owner() == "" || s.Client() != c {
		t.Errorf("defaults: ttl %v, namespace %q, owner %q", s.TTL(), s.Namespace(), s.Owner())
	}
}

func TestCtxBoundsTheCallOnly(t *testing.T) {
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), valueKey{}, "kept"))
	s, err := core.NewSession(ctx, etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cancel()
	if s.Context().Err() != nil {
		t.Error("the session ended with the call's context")
	}
	if s.Context().Value(valueKey{}) != "kept" {
		t.Error("the session's context lost the values")
	}
	if _, err := core.NewSession(ctx, etcd.Client(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("with an ended context: %v", err)
	}
}

type valueKey struct{}

func TestCloseDeletesWhatIsOwned(t *testing.T) {
	c, key := etcd.Client(t), etcd.Prefix(t)+"/k"
	s := open(t, c)
	put(t, c, key, s.Lease())
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	all.Wait()
	if cause := context.Cause(s.Context()); !errors.Is(cause, core.ErrSessionClosed) || s.State() != core.Expired {
		t.Errorf("cause %v, state %v", cause, s.State())
	}
	if left, _ := leaseTTL(t, s.Lease()); left != -1 {
		t.Errorf("the lease has %d s left", left)
	}
	if kvs := etcd.Dump(t, key); len(kvs) != 0 {
		t.Error("the key stands")
	}
	s.Orphan() // after Close: nothing
}

func TestCloseAfterTheClient(t *testing.T) {
	c := etcd.Client(t)
	s := open(t, c, core.WithTTL(time.Minute))
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); !errors.Is(err, core.ErrUnknownOutcome) {
		t.Errorf("Close: %v, want ErrUnknownOutcome", err)
	}
}

func TestCloseRetriesALostRevocation(t *testing.T) {
	faults := coretest.NewFaults()
	s := open(t, etcd.Client(t, faults.DialOptions()...))
	lost := faults.LoseRequest(coretest.Method("LeaseRevoke"), coretest.Times(2))
	if err := s.Close(); err != nil || lost.Fired() != 2 {
		t.Errorf("Close: %v after %d losses", err, lost.Fired())
	}
	if left, _ := leaseTTL(t, s.Lease()); left != -1 {
		t.Errorf("the lease has %d s left", left)
	}
}

func TestOrphanedLeaseIsResumed(t *testing.T) {
	c, prefix := etcd.Client(t), etcd.Prefix(t)
	s := open(t, c, core.WithTTL(20*time.Second), core.WithNamespace(prefix))
	held, err := lock.NewMutex(s, "orphan").Lock(within(t))
	if err != nil {
		t.Fatal(err)
	}
	before := len(etcd.Dump(t, "/conclave/"+prefix+"/"))
	s.Orphan()
	s.Orphan()
	if cause := context.Cause(s.Context()); !errors.Is(cause, core.ErrSessionClosed) {
		t.Errorf("cause %v", cause)
	}
	if cause := context.Cause(held.Context()); !errors.Is(cause, core.ErrSessionClosed) || !errors.Is(cause, lock.ErrLost) {
		t.Errorf("cause of the lock's end: %v", cause)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close after Orphan: %v", err)
	}
	if got := len(etcd.Dump(t, "/conclave/"+prefix+"/")); got != before || before == 0 {
		t.Errorf("%d keys after Orphan, %d before", got, before)
	}
	if _, err := core.NewSession(within(t), c, core.WithLease(s.Lease()), core.WithTTL(15*time.Second)); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("resume with another TTL: %v", err)
	}
	next := open(t, c, core.WithLease(s.Lease()))
	if next.Lease() != s.Lease() || next.TTL() != 20*time.Second || next.State() != core.Active {
		t.Errorf("lease %x, ttl %v, state %v", next.Lease(), next.TTL(), next.State())
	}
	if err := next.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	if got := etcd.Dump(t, "/conclave/"+prefix+"/"); len(got) != 0 {
		t.Errorf("%d keys after Close", len(got))
	}
	if _, err := core.NewSession(within(t), c, core.WithLease(s.Lease())); !errors.Is(err, core.ErrSessionExpired) {
		t.Errorf("resume a lease that is gone: %v", err)
	}
}

func TestLeaseRevokedByHand(t *testing.T) {
	t.Parallel()
	s, err := core.NewSession(within(t), etcd.Client(t), core.WithTTL(5*time.Second)) // never closed: expiry cleans up
	if err != nil {
		t.Fatal(err)
	}
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	if cause := ended(t, s.Context()); !errors.Is(cause, core.ErrSessionExpired) {
		t.Errorf("cause %v", cause)
	}
	if s.Remaining() > 0 || s.State() != core.Expired {
		t.Errorf("remaining %v, state %v", s.Remaining(), s.State())
	}
}

func TestBlackHoleForReplies(t *testing.T) {
	t.Parallel()
	link := etcd.Link(t)
	s := open(t, coretest.Dial(t, link.Endpoint()), core.WithTTL(5*time.Second))
	link.Blackhole(coretest.ToClient)
	if cause := ended(t, s.Context()); !errors.Is(cause, core.ErrSessionExpired) {
		t.Errorf("cause %v", cause)
	}
	link.Heal()
	if err := s.Close(); !errors.Is(err, core.ErrSessionExpired) {
		t.Errorf("Close: %v", err)
	}
	if s.State() != core.Expired {
		t.Error("healing revived the session")
	}
}

func TestOnRenewalTellsOfEveryRenewal(t *testing.T) {
	t.Parallel()
	s := open(t, etcd.Client(t), core.WithTTL(5*time.Second))
	beats := make(chan time.Duration, 16)
	s.OnRenewal(func(d time.Duration) { beats <- d })
	for range 3 { // at once, and after two renewals
		select {
		case d := <-beats:
			if d > 4*time.Second {
				t.Errorf("valid for %v, want at most TTL less margin", d)
			}
		case <-within(t).Done():
			t.Fatal("no renewal")
		}
	}
}

func TestSessionOutlivesARestartOfEtcd(t *testing.T) {
	t.Parallel()
	cfg := embedded.Config{DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0", Fast: true}
	m, err := embedded.Start(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := m.Endpoints()[0]
	c := coretest.Dial(t, endpoint)
	s := open(t, c)
	key := fmt.Sprintf("restart-%x", s.Lease())
	put(t, c, key, s.Lease())
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.ClientAddr = strings.TrimPrefix(endpoint, "http://")
	m, err = embedded.Start(within(t), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	beats := make(chan struct{}, 16)
	s.OnRenewal(func(time.Duration) { beats <- struct{}{} })
	for range 2 { // the second one comes from the member that was restarted
		select {
		case <-beats:
		case <-s.Context().Done():
			t.Fatalf("the session ended: %v", context.Cause(s.Context()))
		}
	}
	resp, err := m.Client().Get(within(t), key)
	if err != nil || len(resp.Kvs) != 1 {
		t.Errorf("the key after a restart: %v, %v", resp, err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
}
