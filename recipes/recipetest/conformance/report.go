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
	Check   string        `json:"check"`
	Carrier Carrier       `json:"carrier"`
	Outcome Outcome       `json:"outcome"`
	Detail  string        `json:"detail,omitempty"`
	Took    time.Duration `json:"-"`
}

// A Report is what a run of the suite found out.
type Report struct {
	Suite   string   `json:"suite"`
	Recipe  string   `json:"recipe"`
	Version string   `json:"version"`
	Passed  bool     `json:"passed"` // no check failed
	Results []Result `json:"results"`
}

// NewReport returns the report of results about one recipe.
func NewReport(name, version string, results []Result) Report {
	r := Report{Suite: Version, Recipe: name, Version: version, Passed: len(results) > 0, Results: results}
	for _, one := range results {
		r.Passed = r.Passed && one.Outcome != Failed
	}
	return r
}
