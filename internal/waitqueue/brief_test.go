package waitqueue

import (
	"context"
	"errors"
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// nestedTxn matches transactions that have others in them.
func nestedTxn(_ string, req any) bool {
	t, ok := req.(*pb.TxnRequest)
	if !ok {
		return false
	}
	for _, op := range t.Success {
		if op.GetRequestTxn() != nil {
			return true
		}
	}
	return false
}

// A line in steady use costs each owner one plain request to enter it and one to
// leave, and a read when the hints are used up: whatever is nested is refused
// here, and nobody misses it.
func TestHandoversInSteadyUseAreBrief(t *testing.T) {
	name := etcd.Prefix(t)
	const sessions = 4
	var qs [sessions]*Queue
	var fs [sessions]*coretest.Faults
	var waits [sessions]<-chan result
	for i := range qs {
		qs[i], fs[i] = open(t)
	}
	first := acquired(t, qs[0], exclusive(name))
	for i := 1; i < sessions; i++ {
		waits[i] = background(t, bounded(t), qs[i], exclusive(name))
		tickets(t, name, i)
	}
	released(t, first)
	waits[0] = background(t, bounded(t), qs[0], exclusive(name))
	tickets(t, name, sessions-1)
	last := int64(0)
	for round := range 3 * hintCount {
		i := (round + 1) % sessions
		o := served(t, waits[i])
		if o.token <= last {
			t.Fatalf("token %d after %d", o.token, last)
		}
		last = o.token
		if round == sessions { // all have met the line by now
			for _, f := range fs {
				f.LoseRequest(nestedTxn, coretest.Always())
			}
		}
		released(t, o)
		waits[i] = background(t, bounded(t), qs[i], exclusive(name))
		tickets(t, name, sessions-1)
	}
	for _, f := range fs {
		f.Clear()
	}
	for round := range sessions {
		released(t, served(t, waits[(3*hintCount+round+1)%sessions]))
	}
	cleanedUp(t, name)
}

// A hint that is of no use any more costs a request, and nobody a place.
func TestBriefHandoverToOneWhoLeft(t *testing.T) {
	name := etcd.Prefix(t)
	var qs [4]*Queue
	for i := range qs {
		qs[i], _ = open(t)
	}
	first := acquired(t, qs[0], exclusive(name))
	second := background(t, bounded(t), qs[1], exclusive(name))
	tickets(t, name, 1)
	ctx, leave := context.WithCancel(bounded(t))
	third := background(t, ctx, qs[2], exclusive(name))
	tickets(t, name, 2)
	fourth := background(t, bounded(t), qs[3], exclusive(name))
	tickets(t, name, 3)
	released(t, first) // which hands on the hints of the third and the fourth
	o := served(t, second)
	leave()
	if r := outcome(t, third); !errors.Is(r.err, context.Canceled) {
		t.Fatalf("who left: %v", r.err)
	}
	released(t, o)
	released(t, served(t, fourth))
	cleanedUp(t, name)
}

// Owners that last get their watches from one timer: each hears of its own end.
func TestEveryLateOwnerHearsOfItsEnd(t *testing.T) {
	prefix := etcd.Prefix(t)
	q, _ := open(t)
	client := etcd.Client(t)
	var owners []*Owned
	for i := range 12 {
		owners = append(owners, acquired(t, q, exclusive(fmt.Sprintf("%s-%d", prefix, i))))
		if i%3 == 0 { // some leave the row that the timer works off
			o := acquired(t, q, exclusive(fmt.Sprintf("%s-brief-%d", prefix, i)))
			released(t, o)
		}
	}
	for i, o := range owners {
		if _, err := client.Delete(bounded(t), prefixOf(fmt.Sprintf("%s-%d", prefix, i))+grantPart); err != nil {
			t.Fatal(err)
		}
		select {
		case <-o.Context().Done():
		case <-bounded(t).Done():
			t.Fatalf("owner %d never heard of its end", i)
		}
		if err := o.Release(); !errors.Is(err, errLost) || !errors.Is(err, core.ErrKeyDeleted) {
			t.Errorf("owner %d: %v", i, err)
		}
	}
}
