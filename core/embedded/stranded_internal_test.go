package embedded

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// A write that waits through a change of the leader ends with an unknown outcome after the grace; one that was answered before, and one that began
// later, are let be.
func TestStrandedWritesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, leader, done := newStranded(), make(chan struct{}), make(chan struct{})
		s.grace = time.Second
		go s.watch(func() <-chan struct{} { return leader }, done)
		write := func(answered time.Duration) <-chan error {
			out := make(chan error, 1)
			go func() {
				out <- s.do(t.Context(), func(ctx context.Context) error {
					select {
					case <-time.After(answered):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				})
			}()
			synctest.Wait()
			return out
		}
		stranded, answered := write(time.Hour), write(500*time.Millisecond)
		change := leader
		leader = make(chan struct{})
		close(change)
		synctest.Wait()
		later := write(2 * time.Second)
		begun := time.Now()
		if err := <-stranded; !errors.Is(err, rpctypes.ErrGRPCTimeoutDueToLeaderFail) || time.Since(begun) != s.grace {
			t.Errorf("stranded: %v after %v", err, time.Since(begun))
		}
		if err := <-answered; err != nil {
			t.Errorf("answered in time: %v", err)
		}
		if err := <-later; err != nil {
			t.Errorf("begun after the change: %v", err)
		}
		if len(s.open) > 0 {
			t.Errorf("%d are remembered", len(s.open))
		}
		close(done)
	})
}
