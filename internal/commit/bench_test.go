package commit_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/internal/commit"
)

// The benchmarks compare transactions through a committer with the same ones
// sent by the client alone, on a member with fsync. Run them alone.

func BenchmarkClient(b *testing.B) {
	client := coretest.StartEtcd(b, coretest.WithFsync()).Client(b)
	concurrently(b, func(ctx context.Context, n int) error {
		txn := putTxn(fmt.Sprintf("bench/%d", n))
		_, err := client.Txn(ctx).Then(txn.Then...).Commit()
		return err
	})
}

func BenchmarkCommitter(b *testing.B) {
	c := newCommitter(b, commit.Config{KV: coretest.StartEtcd(b, coretest.WithFsync()).Client(b)})
	concurrently(b, func(_ context.Context, n int) error {
		txn, answer := putTxn(fmt.Sprintf("bench/%d", n)), make(chan error, 1)
		c.Submit(txn.Scope, func() commit.Txn { return txn }, func(_ commit.Result, err error) { answer <- err })
		return <-answer
	})
}

func concurrently(b *testing.B, do func(ctx context.Context, n int) error) {
	for _, goroutines := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("goroutines=%d", goroutines), func(b *testing.B) {
			var names atomic.Int64
			work := make(chan struct{})
			done := make(chan error, goroutines)
			for range goroutines {
				go func() {
					n, err := int(names.Add(1)), error(nil)
					for range work {
						if err == nil {
							err = do(b.Context(), n)
						}
					}
					done <- err
				}()
			}
			for b.Loop() {
				work <- struct{}{}
			}
			close(work)
			for range goroutines {
				if err := <-done; err != nil {
					b.Error(err)
				}
			}
		})
	}
}
