package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core/recipe"

	cronv1 "example.com/conclave-cron/proto/example/cron/v1"
)

// snippet:recipe

// Recipe serves example.cron.v1.CronService.
type Recipe struct{}

// Info describes the recipe.
func (Recipe) Info() recipe.Info {
	return recipe.Info{Name: "cron", Version: "0.1.0", Summary: "Jobs on a schedule, once in a fleet"}
}

// Open starts an instance.
func (Recipe) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	i := newInstance(env, time.Now)
	if _, err := i.mirror(recipe.DefaultNamespace); err != nil {
		i.stop(err)
		return nil, err
	}
	cronv1.RegisterCronServiceServer(reg, &service{env: env, instance: i, now: i.now})
	return i, nil
}

// end

// instance keeps the jobs of every namespace that has some.
type instance struct {
	env  recipe.Env
	now  func() time.Time
	ctx  context.Context //nolint:containedctx // of what runs in the background, from Open to Close
	stop context.CancelCauseFunc

	mu      sync.Mutex
	closed  bool
	mirrors map[string]*mirror
	running sync.WaitGroup
}

var errStopped = errors.New("the recipe stops")

func newInstance(env recipe.Env, now func() time.Time) *instance {
	ctx, stop := context.WithCancelCause(context.Background())
	return &instance{env: env, now: now, ctx: ctx, stop: stop, mirrors: make(map[string]*mirror)}
}

// mirror returns a namespace's mirror, and starts it and its keeper if there is
// none. Namespaces are found by what stands in "default", where a recipe keeps
// what concerns it as a whole: no range covers them all.
func (i *instance) mirror(namespace string) (*mirror, error) {
	k, err := newKeys(i.env, namespace)
	if err != nil {
		return nil, err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if m := i.mirrors[namespace]; m != nil {
		return m, nil
	}
	if i.closed {
		return nil, errStopped
	}
	m := newMirror(i.env, k, i.found)
	i.mirrors[namespace] = m
	i.running.Go(func() { m.follow(i.ctx) })
	i.running.Go(func() { newKeeper(m, i.now).run(i.ctx) })
	return m, nil
}

func (i *instance) found(namespace string) {
	if _, err := i.mirror(namespace); err != nil && !errors.Is(err, errStopped) {
		i.env.Log.Warn("jobs of a namespace are not run", slog.String("namespace", namespace), slog.Any("error", err))
	}
}

// Close ends what runs in the background. Runs stay with their workers.
func (i *instance) Close(ctx context.Context) error {
	i.mu.Lock()
	i.closed = true
	i.mu.Unlock()
	i.stop(errStopped)
	done := make(chan struct{})
	go func() {
		defer close(done)
		i.running.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
