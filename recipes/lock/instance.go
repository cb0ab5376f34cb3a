package lock

import (
	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// An instance is a LockService that runs.
type instance struct {
	lockv1.UnimplementedLockServiceServer
	*service.Service

	places *service.Places[lock.Place]
}

func newInstance(env recipe.Env, past service.History) *instance {
	places := service.NewPlaces[lock.Place]()
	return &instance{places: places, Service: service.New(env, past, places.Run)}
}
