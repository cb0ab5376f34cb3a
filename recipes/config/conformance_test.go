package config_test

import (
	"testing"

	"github.com/conclavehq/conclave/recipes/config"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

func TestConformance(t *testing.T) {
	const service = "conclave.config.v1.ConfigService/"
	recipetest.Run(t, config.Recipe{}, recipetest.WithScenario(recipetest.Scenario{
		Name: "value",
		Take: recipetest.NewCall(service+"Set", `{"key":"$name","value":"1"}`),
		Show: recipetest.NewCall(service+"Get", `{"key":"$name"}`),
	}))
}
