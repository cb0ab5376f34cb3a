package remote

import (
	"context"
	"time"

	"google.golang.org/grpc"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/conclavehq/conclave/internal/clock"
)

// restarting is how long after a host was lost its recipes may take to be there again.
const restarting = 10 * time.Second

// Wait makes one call that waits, at one host after the other, until one answers or
// ctx ends. The wait, nil for as long as it takes, counts from now, whichever hosts
// are asked meanwhile: call gets what is left of it.
func (c *Client) Wait(ctx context.Context, wait *durationpb.Duration, call func(cc grpc.ClientConnInterface, left *durationpb.Duration) error) error {
	began := clock.Now()
	var lost clock.Stamp // when a host was
	for {
		left := wait
		if wait != nil {
			// What hosts say of it is for people.
			left = durationpb.New(max(0, wait.AsDuration()-clock.Since(began)).Round(time.Millisecond))
		}
		err := c.Do(ctx, func(cc grpc.ClientConnInterface) error { return call(cc, left) })
		if err == nil {
			return nil
		}
		if !starting(err) {
			lost = clock.Now()
		} else if clock.Since(lost) > restarting {
			return err
		}
		if ctx.Err() != nil || !passes(err) || !pause(ctx, retryPause) {
			return err
		}
	}
}

// Reach returns nil if a host can be reached: for those who begin with a call that
// waits, and would wait for a host that never was.
func (c *Client) Reach(ctx context.Context) error {
	return c.Do(ctx, func(cc grpc.ClientConnInterface) error {
		_, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
		return err
	})
}
