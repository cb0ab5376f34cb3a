package waitqueue

import (
	"context"
	"errors"
	"testing"
)

// A wait that its caller gives up ends also while another one of the session
// waits for etcd to confirm the watch that both need.
func TestCancelledWhileAnotherOpensTheWatch(t *testing.T) {
	q, _ := open(t)
	n := q.use("opening")
	defer q.drop(n)
	if err := n.watchOwn(bounded(t), bucketOf(0)); err != nil {
		t.Fatal(err)
	}
	n.watches[bucketOf(0)].opening <- struct{}{} // somebody is at it
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.watchOwn(ctx, bucketOf(0)); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
}
