package conformance

import "time"

// Version names the set of checks. It changes when a recipe that passed may fail
// without having changed.
const Version = "conformance v1"

// An Outcome is what became of a check.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // it says nothing about this recipe, or cannot be done here; the detail says why
)

// A Result is a check's outcome.
type Result struct {
	Check   string        `json:"check"`            // its name
	Carrier Carrier       `json:"carrier"`          // where the recipe ran
	Outcome Outcome       `json:"outcome"`          // what became of it
	Detail  string        `json:"detail,omitempty"` // what was expected and what came, or why it was skipped, on one line
	Took    time.Duration `json:"-"`                // how long it took
}

// A Report is what a run of the suite found out.
type Report struct {
	Suite   string   `json:"suite"`   // the package's Version
	Recipe  string   `json:"recipe"`  // the recipe's name
	Version string   `json:"version"` // the recipe's
	Passed  bool     `json:"passed"`  // no check failed
	Results []Result `json:"results"` // in the order in which the checks ran
}

// NewReport returns the report of results about one recipe.
func NewReport(name, version string, results []Result) Report {
	r := Report{Suite: Version, Recipe: name, Version: version, Passed: len(results) > 0, Results: results}
	for _, one := range results {
		r.Passed = r.Passed && one.Outcome != Failed
	}
	return r
}
