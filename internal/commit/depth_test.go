package commit_test

import (
	"fmt"
	"testing"

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
	var few []commit.Ticket
	for n := range worthwhile - 1 {
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
	for n := range worthwhile {
		others.submit(c, n, putTxn(fmt.Sprint(prefix, "/enough/", n)))
	}
	for n, o := range others.wait(t) {
		if o.err != nil {
			t.Errorf("enough: %d: %v", n, o.err)
		}
	}
	hold.Release()
	for _, o := range first.wait(t) {
		if o.err != nil {
			t.Errorf("the first: %v", o.err)
		}
	}
}
