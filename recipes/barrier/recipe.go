package barrier

import (
	"context"
	"fmt"

	"google.golang.org/grpc"

	barrierv1 "github.com/conclavehq/conclave/api/conclave/barrier/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// name is the recipe's name and the segment of its keys, which it shares with
// the library.
const name = "barrier"

// Recipe serves conclave.barrier.v1.BarrierService. The zero value is ready.
type Recipe struct{}

var _ recipe.Recipe = Recipe{}

// Info describes the recipe. It takes no configuration.
func (Recipe) Info() recipe.Info {
	return recipe.Info{
		Name:    name,
		Version: "0.1.0",
		Summary: "Barriers, double and cyclic ones, and latches that count down",
	}
}

// Open registers the BarrierService. It does no I/O. It fails for an instance that
// is not called "barrier": users of the library would not meet it.
func (Recipe) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if env.Instance != name {
		return nil, fmt.Errorf("barrier: instance: is %q, but the library's keys are under %q: run it under that name", env.Instance, name)
	}
	i := &instance{Service: service.New(env, service.History{Off: true})}
	barrierv1.RegisterBarrierServiceServer(reg, i)
	return i, nil
}

// An instance is a BarrierService that runs.
type instance struct {
	barrierv1.UnimplementedBarrierServiceServer
	*service.Service
}
