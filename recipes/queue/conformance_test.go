package queue_test

import (
	"testing"

	"github.com/conclavehq/conclave/recipes/queue"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

func TestConformance(t *testing.T) {
	const service = "conclave.queue.v1.QueueService/"
	recipetest.Run(t, queue.Recipe{}, recipetest.WithScenario(recipetest.Scenario{
		Name:  "delivery",
		Setup: []recipetest.Call{*recipetest.NewCall(service+"Enqueue", `{"name":"$name","items":[{"value":"work"}]}`)},
		Take:  recipetest.NewCall(service+"Dequeue", `{"name":"$name"}`),
		Show:  recipetest.NewCall(service+"Stats", `{"name":"$name"}`, "depth", "inFlight"),
		Wait:  recipetest.NewCall(service+"Dequeue", `{"name":"$name"}`),
		// Items keep their order, not those who wait for any of them.
		Transient: true,
		Free:      recipetest.NewCall(service+"Nack", `{"name":"$name","id":"$take.items.0.id","token":"$take.items.0.token"}`),
	}))
}
