package barrier_test

import (
	"testing"

	"github.com/conclavehq/conclave/recipes/barrier"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

func TestConformance(t *testing.T) {
	const service = "conclave.barrier.v1.BarrierService/"
	recipetest.Run(t, barrier.Recipe{}, recipetest.WithScenario(recipetest.Scenario{
		Name: "hold",
		Take: recipetest.NewCall(service+"Hold", `{"name":"$name"}`),
		Show: recipetest.NewCall(service+"List", `{"prefix":"$name"}`, "barriers.0.phase", "barriers.0.members.0.owner", "barriers.0.members.0.token"),
		Wait: recipetest.NewCall(service+"Wait", `{"name":"$name"}`),
		Free: recipetest.NewCall(service+"Release", `{"name":"$name","token":"$take.token"}`),
	}, recipetest.Scenario{
		Name: "double barrier",
		Wait: recipetest.NewCall(service+"Enter", `{"name":"$name","parties":2}`),
		Free: recipetest.NewCall(service+"Enter", `{"name":"$name","parties":2}`),
	}))
}
