// Package recipetest runs the conformance suite on a recipe, inside go test.
//
//	func TestConformance(t *testing.T) {
//		recipetest.Run(t, semaphore.Recipe{}, recipetest.WithScenario(recipetest.Scenario{
//			Name: "permit",
//			Take: recipetest.NewCall("acme.semaphore.v1.SemaphoreService/Acquire", `{"name":"$name"}`),
//			Free: recipetest.NewCall("acme.semaphore.v1.SemaphoreService/Release", `{"name":"$name","token":"$take.token"}`),
//		}))
//	}
//
// The recipe runs in three places, each with a real etcd and real hosts: in this
// process, behind a plugin's connection in this process, so that the race detector
// sees both sides, and as a process of its own, which is killed and paused. For the
// third the test's own program is started again; [WithMain] and [WithProgram] name
// another one.
//
// What is checked is in package conformance.
package recipetest
