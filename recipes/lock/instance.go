package lock

import (
	"time"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/lock"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// fresh is how long an ownership is kept as the library made it: most releases of a
// contended name come that soon. The library begins to watch its keys later than
// that.
const fresh = 100 * time.Millisecond

// An instance is a LockService that runs.
type instance struct {
	lockv1.UnimplementedLockServiceServer
	*service.Service

	places *service.Places[lock.Place]
}

func newInstance(env recipe.Env, past service.History) *instance {
	places := service.NewPlaces[lock.Place](service.Freshness{For: fresh})
	return &instance{places: places, Service: service.New(env, past, places.Run)}
}
