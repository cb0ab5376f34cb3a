package coretest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/coretest"
)

// linked returns a link, a client through it that has a connection, and a key.
func linked(t *testing.T) (*coretest.Link, *clientv3.Client, string) {
	t.Helper()
	l := etcd.Link(t)
	c := coretest.Dial(t, l.Endpoint())
	if _, err := c.Put(t.Context(), t.Name(), "v"); err != nil {
		t.Fatal(err)
	}
	return l, c, etcd.Prefix(t) + "/k"
}

// eventually puts until it works. A request on the broken connection fails; the next waits until the client has another.
func eventually(t *testing.T, c *clientv3.Client, key string) {
	t.Helper()
	for {
		_, err := c.Put(t.Context(), key, "v")
		if err == nil {
			return
		}
		if status.Code(err) != codes.Unavailable {
			t.Fatalf("after Heal: %v", err)
		}
	}
}

func TestCutStopsRequestsAndHealRestores(t *testing.T) {
	l, c, key := linked(t)
	l.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	for ctx.Err() == nil { // the first may fail on the broken connection, the next on a new one
		if _, err := c.Put(ctx, key, "v"); err == nil {
			t.Fatal("a request was answered over a cut link")
		}
	}
	if present(t, key) {
		t.Error("a request passed a cut link")
	}
	l.Heal()
	eventually(t, c, key)
	if !present(t, key) {
		t.Error("an acknowledged request did not pass the healed link")
	}
}

func TestBlackholeOfRequestsDeliversThemLate(t *testing.T) {
	l, c, key := linked(t)
	l.Blackhole(coretest.ToServer)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Put(ctx, key+"/short", "v"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("into a black hole: %v", err)
	}
	result := make(chan error, 1)
	go func() {
		_, err := c.Put(t.Context(), key+"/long", "v")
		result <- err
	}()
	if present(t, key) {
		t.Fatal("a request passed the black hole")
	}
	l.Heal()
	// Whether the short one arrives depends on the server: its cancellation follows it on the wire.
	if err := <-result; err != nil || !present(t, key+"/long") {
		t.Errorf("a caller that waited: %v, applied %t", err, present(t, key+"/long"))
	}
}

func TestBlackholeOfRepliesAppliesRequests(t *testing.T) {
	l, c, key := linked(t)
	rec := etcd.Record(t, key)
	l.Blackhole(coretest.ToClient)
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, key, "v")
		result <- err
	}()
	rec.Wait(1)
	select {
	case err := <-result:
		t.Errorf("a reply passed the black hole: %v", err)
	default:
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled", err)
	}
}

func TestCutBreaksWhatABlackholeHolds(t *testing.T) {
	l, c, key := linked(t)
	rec := etcd.Record(t, key)
	l.Blackhole(coretest.ToClient)
	result := make(chan error, 1)
	go func() {
		_, err := c.Put(t.Context(), key, "v")
		result <- err
	}()
	rec.Wait(1)
	l.Cut()
	if err := <-result; status.Code(err) != codes.Unavailable {
		t.Errorf("error %v, want unavailable", err)
	}
	l.Heal()
	eventually(t, c, key)
}
