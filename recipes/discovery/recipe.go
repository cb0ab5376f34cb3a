package discovery

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/recipe"
)

// name is the recipe's name and the segment of its keys, which it shares with
// the library.
const name = "discovery"

// Recipe serves conclave.discovery.v1.DiscoveryService. The zero value is ready.
type Recipe struct{}

var _ recipe.Recipe = Recipe{}

// Info describes the recipe. It takes no configuration.
func (Recipe) Info() recipe.Info {
	return recipe.Info{
		Name:    name,
		Version: "0.1.0",
		Summary: "Who offers which service, and where, for programs that come and go",
	}
}

// Open registers the DiscoveryService. It does no I/O. It fails for an instance
// that is not called "discovery": users of the library would not meet it.
func (Recipe) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if env.Instance != name {
		return nil, fmt.Errorf("discovery: instance: is %q, but the library's keys are under %q: run it under that name", env.Instance, name)
	}
	i := &instance{env: env}
	i.ctx, i.stop = context.WithCancelCause(context.Background())
	discoveryv1.RegisterDiscoveryServiceServer(reg, i)
	return i, nil
}

// An instance is a DiscoveryService that runs.
type instance struct {
	discoveryv1.UnimplementedDiscoveryServiceServer

	env  recipe.Env
	ctx  context.Context // ends with Close
	stop context.CancelCauseFunc
}

// Close ends the watches. It is idempotent and returns nil.
func (i *instance) Close(context.Context) error {
	i.stop(core.ErrSessionClosed)
	return nil
}

// reading and writing bound what a call asks of etcd: its client waits for a
// connection as long as it may. A leader's election takes about a second and a
// half; whoever writes waits longer, to find out what became of it.
const (
	reading = 5 * time.Second
	writing = 10 * time.Second
)

// bounded asks etcd within a budget, and makes the status of the error.
func bounded[T any](ctx context.Context, budget time.Duration, ask func(ctx context.Context) (T, error)) (T, error) {
	within, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	answer, err := ask(within)
	if err != nil && within.Err() != nil && ctx.Err() == nil {
		return answer, silent(err)
	}
	return answer, status(err)
}
