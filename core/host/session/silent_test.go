package session_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
	"github.com/conclavehq/conclave/core/coretest"
)

// What may simply be asked for again says so while etcd is away, not that its
// outcome is unknown; where etcd is stays the host's business.
func TestCallsWhileEtcdIsAway(t *testing.T) {
	t.Parallel()
	ns, link := namespace(t), etcd.Link(t)
	c := start(t, coretest.Dial(t, link.Endpoint())).dial(t)
	opened, err := c.Open(within(t), &sessionv1.OpenRequest{Namespace: ns})
	if err != nil {
		t.Fatal(err)
	}
	link.Cut()
	for name, call := range map[string]func() error{
		"open": func() error { _, err := c.Open(within(t), &sessionv1.OpenRequest{}); return err },
		"renew": func() error {
			_, err := c.Renew(within(t), &sessionv1.RenewRequest{SessionId: opened.GetSessionId(), Namespace: ns})
			return err
		},
		"list": func() error { _, err := c.List(within(t), &sessionv1.ListRequest{}); return err },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := call()
			if status.Code(err) != codes.Unavailable || status.Convert(err).Message() != "no_quorum: etcd does not answer" {
				t.Errorf("%v", err)
			}
		})
	}
}
