// Package conformance is the suite that every recipe has to pass, wherever it
// runs: in the host's process, behind a plugin's connection, and as a subprocess
// of any language that is killed and paused.
//
// It is what recipetest.Run does inside go test and what conclave plugin test does
// with a finished program. Recipes' tests use recipetest; this package knows no
// testing.T, so that a program can run it.
//
// # How it runs
//
// A [Suite] has a real etcd member of its own and, on it, real hosts with the one
// recipe, as its users will meet it: through the host's API, with sessions, behind
// the host's guard. The suite watches every key of that etcd.
//
// # Scenarios
//
// Without being told anything about a recipe, the suite checks how it opens,
// closes, describes itself and answers bad requests. What callers own is checked
// with a [Scenario]: a few calls that the author gives, in JSON, from which the
// suite finds out the rest, since whatever a session owns is attached to its lease.
package conformance
