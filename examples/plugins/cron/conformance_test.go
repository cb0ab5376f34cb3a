package main

import (
	"testing"

	"github.com/conclavehq/conclave/recipes/recipetest"
)

// snippet:conformance

// The recipe behaves as a recipe must, wherever it runs: a run stays with its
// worker when the recipe is killed.
func TestConformance(t *testing.T) {
	const service = "example.cron.v1.CronService/"
	recipetest.Run(t, Recipe{}, recipetest.WithScenario(recipetest.Scenario{
		Name: "run",
		Setup: []recipetest.Call{
			*recipetest.NewCall(service+"SetJob", `{"job":{"name":"$name","schedule":"0 0 29 2 *"}}`),
			*recipetest.NewCall(service+"RunNow", `{"name":"$name","id":"one"}`),
		},
		Take: recipetest.NewCall(service+"Work", `{"names":["$name"]}`, "id", "token"),
		Show: recipetest.NewCall(service+"GetJob", `{"name":"$name"}`, "runs.0.id", "runs.0.owner", "runs.0.token"),
	}))
}

// end
