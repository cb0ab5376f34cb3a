package core_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

var errWork = errors.New("work failed")

func TestKeepEndsWithWhatRunReturned(t *testing.T) {
	for _, want := range []error{nil, errWork, fmt.Errorf("a lock: %w", core.ErrSessionExpired)} {
		var s *core.Session
		err := core.Keep(within(t), etcd.Client(t), func(_ context.Context, opened *core.Session) error {
			s = opened
			return want
		})
		// The session was not lost, so even an error that says so is run's own.
		if !errors.Is(err, want) || (want == nil && err != nil) {
			t.Errorf("Keep: %v, want %v", err, want)
		}
		if left, _ := leaseTTL(t, s.Lease()); left != -1 {
			t.Errorf("the lease has %d s left", left)
		}
	}
}

func TestKeepOpensTheNextSessionAfterALoss(t *testing.T) {
	t.Parallel()
	for _, how := range []func(ctx context.Context) error{
		func(ctx context.Context) error { return ctx.Err() },
		func(ctx context.Context) error { return fmt.Errorf("work: %w", context.Cause(ctx)) },
	} {
		var used []clientv3.LeaseID
		err := core.Keep(within(t), etcd.Client(t), func(ctx context.Context, s *core.Session) error {
			used = append(used, s.Lease())
			if len(used) > 1 {
				return nil
			}
			coretest.ExpireLease(t, etcd.Client(t), s.Lease())
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), core.ErrSessionExpired) {
				t.Errorf("cause %v", context.Cause(ctx))
			}
			return how(ctx)
		}, core.WithTTL(5*time.Second))
		if err != nil || len(used) != 2 || used[0] == used[1] {
			t.Errorf("Keep: %v with leases %x", err, used)
		}
	}
}

func TestKeepReturnsAnErrorThatIsNotTheLoss(t *testing.T) {
	t.Parallel()
	err := core.Keep(within(t), etcd.Client(t), func(ctx context.Context, s *core.Session) error {
		coretest.ExpireLease(t, etcd.Client(t), s.Lease())
		<-ctx.Done()
		return errWork
	}, core.WithTTL(5*time.Second))
	if !errors.Is(err, errWork) {
		t.Errorf("Keep: %v", err)
	}
}

func TestKeepEndsWithItsContext(t *testing.T) {
	stop := errors.New("stop")
	for name, c := range map[string]struct {
		result func(ctx context.Context) error
		want   error
	}{
		"canceled":            {context.Context.Err, stop},
		"nothing":             {func(context.Context) error { return nil }, stop},
		"an error of its own": {func(context.Context) error { return errWork }, errWork},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(within(t))
			err := core.Keep(ctx, etcd.Client(t), func(ctx context.Context, s *core.Session) error {
				cancel(stop)
				<-ctx.Done()
				return c.result(ctx)
			})
			if !errors.Is(err, c.want) {
				t.Errorf("Keep: %v, want %v", err, c.want)
			}
		})
	}
}

func TestKeepTriesUntilEtcdAnswers(t *testing.T) {
	t.Parallel()
	faults := coretest.NewFaults()
	refused := faults.LoseRequest(coretest.Method("LeaseGrant"), coretest.Times(2))
	ran := false
	err := core.Keep(within(t), etcd.Client(t, faults.DialOptions()...), func(context.Context, *core.Session) error {
		ran = true
		return nil
	})
	if err != nil || !ran || refused.Fired() != 2 {
		t.Errorf("Keep: %v, ran %t, refused %d", err, ran, refused.Fired())
	}
	ctx, cancel := context.WithCancelCause(within(t))
	never := faults.LoseRequest(coretest.Method("LeaseGrant"), coretest.Always())
	kept := make(chan error, 1)
	go func() {
		kept <- core.Keep(ctx, etcd.Client(t, faults.DialOptions()...), func(context.Context, *core.Session) error { return nil })
	}()
	if err := never.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	cancel(errWork)
	if err := <-kept; !errors.Is(err, errWork) {
		t.Errorf("Keep while etcd is away: %v, want the cause of its context", err)
	}
}

func TestKeepRefusesBadOptions(t *testing.T) {
	err := core.Keep(within(t), etcd.Client(t), func(context.Context, *core.Session) error { return nil }, core.WithTTL(time.Second))
	if !errors.Is(err, core.ErrInvalid) {
		t.Errorf("Keep: %v", err)
	}
}

func TestKeepResumesALeaseOnce(t *testing.T) {
	t.Parallel()
	c := etcd.Client(t)
	first := open(t, c, core.WithTTL(5*time.Second))
	first.Orphan()
	var used []clientv3.LeaseID
	run := func(ctx context.Context, s *core.Session) error {
		used = append(used, s.Lease())
		if len(used) > 1 {
			return nil
		}
		coretest.ExpireLease(t, c, s.Lease())
		<-ctx.Done()
		return ctx.Err()
	}
	if err := core.Keep(within(t), c, run, core.WithLease(first.Lease())); err != nil || len(used) != 2 || used[0] != first.Lease() {
		t.Errorf("Keep: %v with leases %x, want %x first", err, used, first.Lease())
	}
	if err := core.Keep(within(t), c, run, core.WithLease(first.Lease())); err != nil || len(used) != 3 {
		t.Errorf("Keep with a lease that is gone: %v with leases %x", err, used)
	}
}

func TestKeepClosesItsSessionWhenRunPanics(t *testing.T) {
	var s *core.Session
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = core.Keep(within(t), etcd.Client(t), func(_ context.Context, opened *core.Session) error {
			s = opened
			panic("work")
		})
	}()
	if left, _ := leaseTTL(t, s.Lease()); left != -1 {
		t.Errorf("the lease has %d s left", left)
	}
}
