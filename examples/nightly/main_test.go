package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

func TestOneMachineRunsTheJob(t *testing.T) {
	a, b := etcd.Client(t), etcd.Client(t)
	var first, second bytes.Buffer
	err := nightly(t.Context(), a, &first, func(ctx context.Context, out io.Writer) error {
		// Another machine starts while the job runs.
		if err := nightly(t.Context(), b, &second, cleanUp); err != nil {
			t.Errorf("the second machine: %v", err)
		}
		return cleanUp(ctx, out)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := first.String(); strings.Count(got, "cleaned up") != 3 {
		t.Errorf("the first machine wrote %q", got)
	}
	if got := second.String(); !strings.Contains(got, "nothing to do") || strings.Contains(got, "cleaned up") {
		t.Errorf("the second machine wrote %q", got)
	}
	// The next night finds it free.
	second.Reset()
	if err := nightly(t.Context(), b, &second, cleanUp); err != nil || strings.Count(second.String(), "cleaned up") != 3 {
		t.Errorf("the next night: %v, %q", err, second.String())
	}
}

func TestTheJobStopsWhenTheLockIsLost(t *testing.T) {
	client := etcd.Client(t)
	var out bytes.Buffer
	err := nightly(t.Context(), client, &out, func(ctx context.Context, out io.Writer) error {
		leases, err := client.Leases(ctx)
		if err != nil {
			return err
		}
		for _, l := range leases.Leases {
			coretest.ExpireLease(t, client, l.ID)
		}
		<-ctx.Done()
		return cleanUp(ctx, out)
	})
	if !errors.Is(err, lock.ErrLost) || out.Len() != 0 {
		t.Errorf("error %v, output %q; want ErrLost and none", err, out.String())
	}
}
