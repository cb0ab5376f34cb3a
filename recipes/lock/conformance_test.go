package lock_test

import (
	"testing"

	"github.com/conclavehq/conclave/recipes/lock"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

func TestConformance(t *testing.T) {
	const service = "conclave.lock.v1.LockService/"
	recipetest.Run(t, lock.Recipe{}, recipetest.WithScenario(recipetest.Scenario{
		Name: "mutex",
		Take: recipetest.NewCall(service+"Acquire", `{"name":"$name"}`),
		Show: recipetest.NewCall(service+"Why", `{"name":"$name"}`, "kind", "holders.0.owner", "holders.0.token", "holders.0.since"),
		Wait: recipetest.NewCall(service+"Acquire", `{"name":"$name"}`),
		Free: recipetest.NewCall(service+"Release", `{"name":"$name","token":"$take.token"}`),
	}))
}
