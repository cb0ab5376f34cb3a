package election

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/recipes/internal/service"
)

// name is the recipe's name and the segment of its keys, which it shares with
// the library.
const name = "election"

// Recipe serves conclave.election.v1.ElectionService. The zero value is ready.
type Recipe struct{}

var (
	_ recipe.Recipe    = Recipe{}
	_ recipe.Validator = Recipe{}
)

// Info describes the recipe. Its configuration is a conclave.election.v1.Config.
func (Recipe) Info() recipe.Info {
	return recipe.Info{
		Name:    name,
		Version: "0.1.0",
		Summary: "Leader election, with fencing tokens, observers that miss no term, and a history",
		Config:  &electionv1.Config{},
	}
}

// Validate implements [recipe.Validator] for a conclave.election.v1.Config.
func (Recipe) Validate(config proto.Message) error {
	_, err := pastOf(config)
	return err
}

// Open registers the ElectionService and starts the recorder of histories. It
// does no I/O. It fails for a configuration outside its limits, and for an
// instance that is not called "election": users of the library would not meet it.
func (Recipe) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	if env.Instance != name {
		return nil, fmt.Errorf("election: instance: is %q, but the library's keys are under %q: run it under that name", env.Instance, name)
	}
	past, err := pastOf(env.Config)
	if err != nil {
		return nil, fmt.Errorf("election: %w", err)
	}
	i := newInstance(env, past)
	electionv1.RegisterElectionServiceServer(reg, i)
	return i, nil
}

// pastOf is what a configuration says of the history.
func pastOf(m proto.Message) (service.History, error) {
	c, _ := m.(*electionv1.Config) // nil stands for the defaults
	return service.HistoryOf(c)
}

// maxTerms is how many terms the library looks after, of all that were won here: a
// leader stays for long, and who follows its line resigns with one request. The
// others are plain values.
const maxTerms = 1000

// An instance is an ElectionService that runs.
type instance struct {
	electionv1.UnimplementedElectionServiceServer
	*service.Service

	places *service.Places[election.Place]
}

func newInstance(env recipe.Env, past service.History) *instance {
	places := service.NewPlaces[election.Place](service.Freshness{Most: maxTerms})
	return &instance{places: places, Service: service.New(env, past, places.Run)}
}
