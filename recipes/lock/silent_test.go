package lock_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
)

// Who asks while etcd is away is told so, and soon: etcd's client alone would wait
// for as long as the caller does.
func TestReadsSayThatEtcdIsAway(t *testing.T) {
	t.Parallel()
	link := etcd.Link(t)
	h := startHost(t, coretest.Dial(t, link.Endpoint()), &lockv1.Config{HistoryOff: true})
	link.Cut()
	defer link.Heal() // the instance's own session is closed behind it
	errs := make(chan error, 3)
	go func() { _, err := h.List(testContext(t), &lockv1.ListRequest{}); errs <- err }()
	go func() { _, err := h.Why(testContext(t), &lockv1.WhyRequest{Name: "away"}); errs <- err }()
	go func() { _, err := h.History(testContext(t), &lockv1.HistoryRequest{Name: "away"}); errs <- err }()
	for range 3 {
		want(t, <-errs, codes.Unavailable, "no_quorum")
	}
}

// A release while etcd is away is answered long before the session's end. It goes
// on without its caller.
func TestReleaseSaysThatEtcdIsAway(t *testing.T) {
	t.Parallel()
	const ns = "default"
	link := etcd.Link(t)
	defer link.Heal() // the instance's own session is closed behind it
	h := startHost(t, coretest.Dial(t, link.Endpoint()), &lockv1.Config{HistoryOff: true})
	s := session(t, "releases", ns, core.WithTTL(2*servicetest.Patience))
	c := callerOf(t, s)
	name, elsewhere := etcd.Prefix(t)+"here", etcd.Prefix(t)+"elsewhere"
	token := h.acquire(t, c, name)
	other, err := lock.NewMutex(s, elsewhere).Lock(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	link.Cut()
	errs := make(chan error, 1)
	go func() { errs <- h.release(c, elsewhere, int64(other.Token())) }()
	want(t, h.release(c, name, token), codes.Unknown, "outcome_unknown")
	want(t, <-errs, codes.Unavailable, "no_quorum") // nothing was sent but a question
	link.Heal()
	next := session(t, "next", ns)
	if _, err := lock.NewMutex(next, name).Lock(testContext(t)); err != nil {
		t.Errorf("the release did not go on: %v", err)
	}
}
