package queue

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	queuev1 "github.com/conclavehq/conclave/api/conclave/queue/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/watch"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// name is the recipe's name and the segment of its keys, which it shares with
// the library.
const name = "queue"

// Recipe serves conclave.queue.v1.QueueService. The zero value is ready.
type Recipe struct{}

var _ recipe.Recipe = Recipe{}

// Info describes the recipe. It takes no configuration.
func (Recipe) Info() recipe.Info {
	return recipe.Info{
		Name:    name,
		Version: "0.1.0",
		Summary: "Durable work queues: delivered at least once, with effects that happen once",
	}
}

// Open registers the QueueService. It does no I/O. It fails for an instance that
// is not called "queue": users of the library would not meet it.
func (Recipe) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if env.Instance != name {
		return nil, fmt.Errorf("queue: instance: is %q, but the library's keys are under %q: run it under that name", env.Instance, name)
	}
	i := &instance{Service: service.New(env, service.History{Off: true}), streams: new(watch.Streams)}
	queuev1.RegisterQueueServiceServer(reg, i)
	return i, nil
}

// An instance is a QueueService that runs.
type instance struct {
	queuev1.UnimplementedQueueServiceServer
	*service.Service

	streams *watch.Streams // of the deliveries that Consume follows
}
