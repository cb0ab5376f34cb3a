package lock_test

import (
	"testing"

	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/coretest"
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
