package commit_test

import (
	"context"
	"errors"
	"testing"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/commit"
)

func TestRunSendsALoneTransactionAndEndsWithItsCaller(t *testing.T) {
	faults := coretest.NewFaults()
	client := etcd.Client(t, faults.DialOptions()...)
	c := commit.New(commit.Config{KV: client})
	defer c.Close(context.Background())
	key := etcd.Prefix(t)
	var result commit.Result
	c.Run(t.Context(), nil, func() commit.Txn { return putTxn(key) }, func(r commit.Result, err error) {
		if err != nil {
			t.Error(err)
		}
		result = r
	})
	if !result.Succeeded { // done was called before Run returned: nothing else was under way
		t.Fatal("not done when Run returned")
	}
	hold := faults.Hold(coretest.Puts(key))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go c.Run(ctx, nil, func() commit.Txn { return putTxn(key) }, func(_ commit.Result, err error) { ended <- err })
	if err := hold.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, commit.ErrUnknown) {
		t.Fatalf("error %v, want ErrUnknown", err)
	}
}

func TestTransactionsBehindARunAreSentAfterIt(t *testing.T) {
	faults := coretest.NewFaults()
	client := etcd.Client(t, faults.DialOptions()...)
	c := commit.New(commit.Config{KV: client, Depth: 1})
	defer c.Close(context.Background())
	key := etcd.Prefix(t)
	hold := faults.Hold(coretest.Puts(key + "/first"))
	done := make(chan error, 2)
	tell := func(_ commit.Result, err error) { done <- err }
	go c.Run(t.Context(), nil, func() commit.Txn { return putTxn(key + "/first") }, tell)
	if err := hold.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Submit(nil, func() commit.Txn { return putTxn(key + "/second") }, tell)
	hold.Release()
	for range 2 {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
