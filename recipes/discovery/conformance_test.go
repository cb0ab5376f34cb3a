package discovery_test

import (
	"testing"

	"github.com/conclavehq/conclave/recipes/discovery"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

func TestConformance(t *testing.T) {
	const service = "conclave.discovery.v1.DiscoveryService/"
	recipetest.Run(t, discovery.Recipe{}, recipetest.WithScenario(recipetest.Scenario{
		Name: "instance",
		Take: recipetest.NewCall(service+"Register", `{"name":"$name","id":"one","addr":"192.0.2.1:80"}`),
		Show: recipetest.NewCall(service+"Resolve", `{"name":"$name"}`, "instances.0.addr", "instances.0.owner", "instances.0.token"),
		Free: recipetest.NewCall(service+"Deregister", `{"name":"$name","id":"one","token":"$take.token"}`),
	}))
}
