package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/recipe"

	ratelimitv1 "example.com/conclave-ratelimit/proto/example/ratelimit/v1"
)

// Recipe serves example.ratelimit.v1.RateLimitService.
type Recipe struct{}

// Info describes the recipe.
func (Recipe) Info() recipe.Info {
	return recipe.Info{Name: "ratelimit", Version: "0.1.0", Summary: "Quotas that a fleet shares", Config: &ratelimitv1.Config{}}
}

// snippet:validate

// Validate checks what the configuration's types do not.
func (Recipe) Validate(config proto.Message) error {
	c, ok := config.(*ratelimitv1.Config)
	if !ok {
		return fmt.Errorf("the configuration is %T, want %T", config, c)
	}
	if p := c.GetBlockPercent(); p < 0 || p > 100 {
		return fmt.Errorf("block_percent: is %d, must be 1 to 100", p)
	}
	return nil
}

// end

// Open starts an instance.
func (r Recipe) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	config, _ := env.Config.(*ratelimitv1.Config)
	if config != nil {
		if err := r.Validate(config); err != nil {
			return nil, err
		}
	}
	share := int64(config.GetBlockPercent())
	if share == 0 {
		share = 5
	}
	ctx, stop := context.WithCancelCause(context.Background())
	i := &instance{
		limiter: &limiter{env: env, share: share, now: time.Now, stocks: make(map[quotaID]*stock)},
		stop:    stop,
		done:    make(chan struct{}),
	}
	ratelimitv1.RegisterRateLimitServiceServer(reg, &service{limiter: i.limiter})
	go i.run(ctx)
	return i, nil
}

// instance is a running recipe: the limiter, and who gives back what is idle.
type instance struct {
	limiter *limiter
	stop    context.CancelCauseFunc
	done    chan struct{}
}

var errStopped = errors.New("the recipe stops")

func (i *instance) run(ctx context.Context) {
	defer close(i.done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := i.limiter.sweep(ctx, idleAfter); err != nil && ctx.Err() == nil {
			i.limiter.env.Log.Warn("tokens count as used until their window ends", "error", err)
		}
	}
}

// Close gives back what this host has claimed and not handed out.
func (i *instance) Close(ctx context.Context) error {
	i.stop(errStopped)
	select {
	case <-i.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	return i.limiter.sweep(ctx, 0)
}
