package lock_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
)

// Without space a lock can be released, but not taken away: the answer says which.
func TestForceWithoutSpace(t *testing.T) {
	t.Parallel()
	e := coretest.StartEtcd(t, coretest.WithConfig(func(c *embedded.Config) { c.QuotaBytes = 4 << 20 }))
	h := startHost(t, e.Client(t), &lockv1.Config{HistoryOff: true})
	c := openOn(t, e, "holder", "default")
	token := h.acquire(t, c, "jobs")
	force := func() error {
		_, err := h.ForceRelease(testContext(t), &lockv1.ForceReleaseRequest{Name: "jobs", Reason: "hangs"})
		return err
	}
	eventually(t, "the instance has its session", func() bool {
		_, err := h.ForceRelease(testContext(t), &lockv1.ForceReleaseRequest{Name: "free", Reason: "free"})
		return err == nil
	})
	kv := e.Client(t)
	for i := 0; ; i++ {
		_, err := kv.Put(testContext(t), fmt.Sprint("fill/", i), strings.Repeat("x", 200<<10))
		if errors.Is(err, rpctypes.ErrNoSpace) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	err := force()
	want(t, err, codes.ResourceExhausted, "no_space")
	if strings.Contains(err.Error(), "releases still work") || !strings.Contains(err.Error(), "the holder cannot be told") {
		t.Errorf("it says %v", err)
	}
	if err := h.release(c, "jobs", token); err != nil {
		t.Errorf("release: %v", err)
	}
}
