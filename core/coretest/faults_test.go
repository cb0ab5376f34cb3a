package coretest_test

import (
	"context"
	"errors"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core/coretest"
)

func faulty(t *testing.T) (*coretest.Faults, *clientv3.Client, string) {
	f := coretest.NewFaults()
	return f, etcd.Client(t, f.DialOptions()...), etcd.Prefix(t) + "/k"
}

func present(t *testing.T, key string) bool {
	t.Helper()
	return len(etcd.Dump(t, key)) > 0
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if status.Code(err) != want {
		t.Errorf("error %v, want code %v", err, want)
	}
}

func TestLoseReplyAppliesAndFails(t *testing.T) {
	f, c, key := faulty(t)
	lost := f.LoseReply(coretest.Puts(key))
	_, err := c.Put(t.Context(), key, "v")
	wantCode(t, err, codes.Unavailable)
	if !present(t, key) {
		t.Error("request was not applied")
	}
	if err := lost.Wait(t.Context()); err != nil || lost.Fired() != 1 {
		t.Errorf("fired %d times, wait: %v", lost.Fired(), err)
	}
	if _, err := c.Put(t.Context(), key, "again"); err != nil {
		t.Errorf("a fault without Times fired twice: %v", err)
	}
}

func TestLoseRequestSendsNothing(t *testing.T) {
	f, c, key := faulty(t)
	lost := f.LoseRequest(coretest.Puts(key), coretest.Times(2), coretest.WithCode(codes.Unknown))
	for range 2 {
		_, err := c.Put(t.Context(), key, "v")
		wantCode(t, err, codes.Unknown)
	}
	if present(t, key) {
		t.Error("a lost request was applied")
	}
	if _, err := c.Put(t.Context(), key, "v"); err != nil || lost.Fired() != 2 {
		t.Errorf("third put: %v, fired %d", err, lost.Fired())
	}
}

func TestSilentFaultLastsUntilTheCallerGivesUp(t *testing.T) {
	f, c, key := faulty(t)
	lost := f.LoseReply(coretest.Puts(key), coretest.Silently())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	result := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, key, "v")
		result <- err
	}()
	if err := lost.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-result:
		t.Errorf("an answer came although the caller still waits: %v", err)
	default:
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || !present(t, key) {
		t.Errorf("error %v, applied %t", err, present(t, key))
	}
}

func TestFaultsLeaveOtherRequestsAlone(t *testing.T) {
	f, c, key := faulty(t)
	f.LoseRequest(coretest.Puts(key), coretest.Always())
	if _, err := c.Put(t.Context(), etcd.Prefix(t), "v"); err != nil {
		t.Errorf("another key: %v", err)
	}
	if _, err := c.Delete(t.Context(), key); err != nil {
		t.Errorf("another operation: %v", err)
	}
	f.Clear()
	if _, err := c.Put(t.Context(), key, "v"); err != nil {
		t.Errorf("after Clear: %v", err)
	}
}

func TestLateArrivesAfterItsCallerGaveUp(t *testing.T) {
	f, c, key := faulty(t)
	late := f.Late(coretest.Puts(key), coretest.Times(2))
	for _, v := range []string{"first", "second"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err := c.Put(ctx, key, v)
		cancel()
		wantCode(t, err, codes.Unavailable)
	}
	if present(t, key) {
		t.Fatal("a late request was applied before its delivery")
	}
	reply, err := late.Deliver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rev := reply.(*pb.PutResponse).Header.Revision; rev == 0 {
		t.Error("no answer from the server")
	}
	if kvs := etcd.Dump(t, key); len(kvs) != 1 || string(kvs[0].Value) != "first" {
		t.Errorf("after delivery: %v, want the oldest request's value", kvs)
	}
	if err := late.Drop(); err != nil {
		t.Error(err)
	}
	if _, err := late.Deliver(t.Context()); !errors.Is(err, coretest.ErrNothingHeld) {
		t.Errorf("deliver after drop: %v", err)
	}
}

func TestHoldWaitsForRelease(t *testing.T) {
	f, c, key := faulty(t)
	hold := f.Hold(coretest.Puts(key))
	result := make(chan error, 1)
	go func() {
		_, err := c.Put(t.Context(), key, "v")
		result <- err
	}()
	if err := hold.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if present(t, key) {
		t.Fatal("a held request was applied")
	}
	hold.Release()
	if err := <-result; err != nil || !present(t, key) {
		t.Errorf("after release: %v, applied %t", err, present(t, key))
	}
}

func TestHoldEndsWithItsCaller(t *testing.T) {
	f, c, key := faulty(t)
	hold := f.Hold(coretest.Puts(key))
	defer hold.Release()
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		_, err := c.Put(ctx, key, "v")
		result <- err
	}()
	if err := hold.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want canceled", err)
	}
	if present(t, key) {
		t.Error("request was sent all the same")
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	f, _, key := faulty(t)
	fault := f.LoseRequest(coretest.Puts(key))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := fault.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait for a fault that never fires: %v", err)
	}
}

func TestMatchersLookIntoNestedTransactions(t *testing.T) {
	var reqs []any
	var methods []string
	note := func(method string, req any) bool {
		methods, reqs = append(methods, method), append(reqs, req)
		return false
	}
	f, c, key := faulty(t)
	f.LoseRequest(note)
	inner := clientv3.OpTxn(
		[]clientv3.Cmp{clientv3.Compare(clientv3.Version(key+"/cmp"), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(key+"/put", "v")},
		[]clientv3.Op{clientv3.OpDelete(key + "/del")})
	if _, err := c.Txn(t.Context()).Then(inner).Else(clientv3.OpGet(key + "/get")).Commit(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		match coretest.Match
		want  bool
	}{
		"put in nested":      {coretest.Puts("/put"), true},
		"delete in nested":   {coretest.Deletes("/del"), true},
		"compare in nested":  {coretest.Compares("/cmp"), true},
		"read in else":       {coretest.Reads("/get"), true},
		"other kind":         {coretest.Puts("/del"), false},
		"method":             {coretest.Method("Txn"), true},
		"method with prefix": {coretest.Method("KV/Txn"), true},
		"part of a method":   {coretest.Method("xn"), false},
		"all":                {coretest.All(coretest.Method("Txn"), coretest.Puts("/put")), true},
		"all but one":        {coretest.All(coretest.Method("Put"), coretest.Puts("/put")), false},
		"not":                {coretest.Not(coretest.Puts("/put")), false},
	} {
		if got := tc.match(methods[0], reqs[0]); got != tc.want {
			t.Errorf("%s: %t, want %t", name, got, tc.want)
		}
	}
}
