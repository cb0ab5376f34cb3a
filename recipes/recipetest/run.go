package recipetest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/recipes/recipetest/conformance"
)

// A Scenario is what the suite has to know of a recipe to check what callers own.
type Scenario = conformance.Scenario

// A Call is one call of a scenario.
type Call = conformance.Call

// NewCall returns a call of a scenario: conformance.NewCall.
func NewCall(method, request string, same ...string) *Call {
	return conformance.NewCall(method, request, same...)
}

// An Option tells the suite more about a recipe.
type Option func(*options)

type options struct {
	config    proto.Message
	scenarios []Scenario
	patience  time.Duration
}

// WithPatience bounds each check: one that takes longer fails. The default is two
// minutes, so that a busy machine fails nothing.
func WithPatience(d time.Duration) Option { return func(o *options) { o.patience = d } }

// WithScenario adds scenarios. Without one, nothing that callers own is checked.
func WithScenario(s ...Scenario) Option {
	return func(o *options) { o.scenarios = append(o.scenarios, s...) }
}

// WithConfig sets the configuration with which the recipe runs. The default is an
// empty one.
func WithConfig(config proto.Message) Option { return func(o *options) { o.config = config } }

// Run checks a recipe wherever it can run, with a subtest for each place and each
// check. It must not be called in a parallel test: among what is checked is that no
// goroutine stays.
func Run(t *testing.T, r recipe.Recipe, opts ...Option) {
	t.Helper()
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	cfg := conformance.Config{Scenarios: o.scenarios, Patience: o.patience}
	if o.config != nil {
		raw, err := protojson.Marshal(o.config)
		if err != nil {
			t.Fatal(err)
		}
		cfg.Config = json.RawMessage(raw)
	}
	for _, subject := range []conformance.Subject{conformance.InProcessSubject(r)} {
		t.Run(string(subject.Carrier()), func(t *testing.T) { run(t, subject, cfg) })
	}
}

func run(t *testing.T, subject conformance.Subject, cfg conformance.Config) {
	t.Helper()
	suite, err := conformance.New(t.Context(), subject, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := suite.Close(); err != nil {
			t.Error(err)
		}
	})
	for _, c := range suite.Checks() {
		t.Run(c.Name, func(t *testing.T) {
			switch r := suite.Run(context.WithoutCancel(t.Context()), c); r.Outcome {
			case conformance.Failed:
				t.Errorf("%s, but: %s", c.Promise, r.Detail)
			case conformance.Skipped:
				t.Skip(r.Detail)
			case conformance.Passed:
			}
		})
	}
}
