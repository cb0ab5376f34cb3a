package main

import (
	"testing"

	"github.com/conclavehq/conclave/recipes/recipetest"
)

// The recipe behaves as a recipe must, wherever it runs. Tokens belong to no
// session, so a quota's setting is what has to survive.
func TestConformance(t *testing.T) {
	const service = "example.ratelimit.v1.RateLimitService/"
	recipetest.Run(t, Recipe{}, recipetest.WithScenario(recipetest.Scenario{
		Name: "quota",
		Setup: []recipetest.Call{
			*recipetest.NewCall(service+"SetQuota", `{"name":"$name","tokens":"1000","window":"86400s"}`),
		},
		Take: recipetest.NewCall(service+"Take", `{"name":"$name","tokens":"1"}`),
		Show: recipetest.NewCall(service+"Status", `{"name":"$name"}`, "quota", "window", "ends"),
	}))
}
