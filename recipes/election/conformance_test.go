package election_test

import (
	"testing"

	"github.com/conclavehq/conclave/recipes/election"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

func TestConformance(t *testing.T) {
	const service = "conclave.election.v1.ElectionService/"
	recipetest.Run(t, election.Recipe{}, recipetest.WithScenario(recipetest.Scenario{
		Name: "term",
		Take: recipetest.NewCall(service+"Campaign", `{"name":"$name","value":"here"}`),
		Show: recipetest.NewCall(service+"Leader", `{"name":"$name"}`, "owner", "value", "token", "since"),
		Wait: recipetest.NewCall(service+"Campaign", `{"name":"$name","value":"there"}`),
		Free: recipetest.NewCall(service+"Resign", `{"name":"$name","token":"$take.token"}`),
	}))
}
