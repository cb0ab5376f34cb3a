// Idle is a plugin that does nothing, for tests of what the SDK itself takes.
package main

import (
	"context"

	"google.golang.org/grpc"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins"
)

func main() { plugins.Serve(idle{}) }

type idle struct{}

func (idle) Info() recipe.Info {
	return recipe.Info{Name: "idle", Version: "1.2.3", Summary: "Does nothing"}
}

func (idle) Open(_ context.Context, _ recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	lockv1.RegisterLockServiceServer(reg, lockv1.UnimplementedLockServiceServer{})
	return idle{}, nil
}

func (idle) Close(context.Context) error { return nil }
