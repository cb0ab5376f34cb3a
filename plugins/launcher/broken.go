package launcher

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/conclavehq/conclave/core/recipe"
)

// Broken returns a recipe that stands for a plugin which cannot even be tried, so
// that a host shows it, says why, and starts all the same. It serves nothing, and
// takes any configuration.
func Broken(name, version, summary string, why error) recipe.Recipe {
	return broken{info: recipe.Info{Name: name, Version: version, Summary: summary, Config: new(structpb.Struct)}, why: why, since: time.Now()}
}

type broken struct {
	info  recipe.Info
	why   error
	since time.Time
}

// Info implements recipe.Recipe.
func (b broken) Info() recipe.Info { return b.info }

// Open implements recipe.Recipe.
func (b broken) Open(context.Context, recipe.Env, grpc.ServiceRegistrar) (recipe.Instance, error) {
	return b, nil
}

// Report implements recipe.Reporter. It never changes.
func (b broken) Report() (recipe.Report, <-chan struct{}) {
	return recipe.Report{State: recipe.StateQuarantined, Detail: b.why.Error(), Since: b.since, Subprocess: true}, make(chan struct{})
}

// Close implements recipe.Instance.
func (broken) Close(context.Context) error { return nil }
