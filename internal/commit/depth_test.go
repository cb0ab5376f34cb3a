package commit_test

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/commit"
)

// worthwhile is how many transactions are sent beside a request under way.
const worthwhile = 16

// TestFewWaitForTheRequestUnderWay: raft would write them to disk after it anyway.
func TestFewWaitForTheRequestUnderWay(t *testing.T) {
	faults, prefix := coretest.NewFaults(), etcd.Prefix(t)
	client := etcd.Client(t, faults.DialOptions()...)
	c := newCommitter(t, commit.Config{KV: client})
	hold := faults.Hold(coretest.Puts(prefix + "/first"))
	t.Cleanup(hold.Release)
	var first, others outcomes
	first.submit(c, 0, putTxn(prefix+"/first"))
	if err := hold.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	waitBehind(t, c, client, prefix, worthwhile-1)
	others.several(c, prefix+"/enough", worthwhile)
	others.succeeded(t)
	hold.Release()
	first.succeeded(t)
}

// TestACrowdWaitsUntilARequestIsFull: two that are less than full cost more than they overlap.
func TestACrowdWaitsUntilARequestIsFull(t *testing.T) {
	const full = 70
	faults, prefix := coretest.NewFaults(), etcd.Prefix(t)
	client := etcd.Client(t, faults.DialOptions()...)
	c := newCommitter(t, commit.Config{KV: client, MaxTxns: full})
	var held [3]*coretest.Hold
	var all [3]outcomes
	start := func(k, n int) {
		name := fmt.Sprint(prefix, "/", k)
		held[k] = faults.Hold(coretest.Puts(name + "/0"))
		t.Cleanup(held[k].Release)
		all[k].several(c, name, n)
	}
	underWay := func(k int) {
		if err := held[k].Wait(within(t)); err != nil {
			t.Fatal(err)
		}
	}
	start(0, 1)
	underWay(0)
	start(1, worthwhile)
	underWay(1)
	start(2, 60) // waits for either
	held[0].Release()
	all[0].succeeded(t)
	underWay(2)
	held[1].Release()
	all[1].succeeded(t)
	waitBehind(t, c, client, prefix, full-1)
	var others outcomes
	others.several(c, prefix+"/full", full)
	others.succeeded(t)
	held[2].Release()
	all[2].succeeded(t)
}

// waitBehind submits n transactions that must not be sent, and takes them back.
func waitBehind(t *testing.T, c *commit.Committer, client *clientv3.Client, prefix string, n int) {
	t.Helper()
	var few []commit.Ticket
	for n := range n {
		txn := putTxn(fmt.Sprint(prefix, "/few/", n))
		few = append(few, c.Submit(txn.Scope, func() commit.Txn { return txn }, func(commit.Result, error) { t.Errorf("few: %d had an answer", n) }))
	}
	for range 3 { // time enough for a request that should not be
		if _, err := client.Get(within(t), prefix); err != nil {
			t.Fatal(err)
		}
	}
	for n, ticket := range few {
		if !ticket.Withdraw() {
			t.Errorf("few: %d was sent", n)
		}
	}
}

// several submits n transactions that write a key each.
func (o *outcomes) several(c *commit.Committer, prefix string, n int) {
	for n := range n {
		o.submit(c, n, putTxn(fmt.Sprint(prefix, "/", n)))
	}
}

// succeeded fails the test unless all did.
func (o *outcomes) succeeded(t *testing.T) {
	t.Helper()
	for n, o := range o.wait(t) {
		if o.err != nil {
			t.Errorf("%d: %v", n, o.err)
		}
	}
}

// TestALargeOneDoesNotWait: the work of a transaction of many keys can go on beside
// another's.
func TestALargeOneDoesNotWait(t *testing.T) {
	faults, prefix := coretest.NewFaults(), etcd.Prefix(t)
	c := newCommitter(t, commit.Config{KV: etcd.Client(t, faults.DialOptions()...)})
	hold := faults.Hold(coretest.Puts(prefix + "/first"))
	t.Cleanup(hold.Release)
	var first, large outcomes
	first.submit(c, 0, putTxn(prefix+"/first"))
	if err := hold.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	large.submit(c, 0, largeTxn(prefix))
	large.succeeded(t)
	hold.Release()
	first.succeeded(t)
}

func largeTxn(prefix string) (txn commit.Txn) {
	for n := range 60 {
		one := putTxn(fmt.Sprint(prefix, "/large/", n))
		txn.Scope, txn.Then = append(txn.Scope, one.Scope...), append(txn.Then, one.Then...)
	}
	return txn
}

// TestALargeOneOfAFewScopes: what it writes counts too, once it is built, and it is
// sent by its caller. No more go at once than the depth allows.
func TestALargeOneOfAFewScopes(t *testing.T) {
	faults, prefix := coretest.NewFaults(), etcd.Prefix(t)
	client := etcd.Client(t, faults.DialOptions()...)
	c := newCommitter(t, commit.Config{KV: client})
	hold := faults.Hold(coretest.Puts(prefix), coretest.Times(2))
	t.Cleanup(hold.Release)
	txn := largeTxn(prefix)
	txn.Scope = txn.Scope[:1]
	done := make(chan error, 3)
	tell := func(_ commit.Result, err error) { done <- err }
	for n := range 2 {
		go c.RunBuilt(t.Context(), txn, tell)
		if err := hold.WaitTimes(within(t), n+1); err != nil {
			t.Fatal(err)
		}
	}
	c.RunBuilt(t.Context(), txn, tell) // returns: it waits for either
	for range 3 {
		if _, err := client.Get(within(t), prefix); err != nil {
			t.Fatal(err)
		}
	}
	if len(done) > 0 {
		t.Fatalf("a third one went beside two: %v", <-done)
	}
	hold.Release()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
