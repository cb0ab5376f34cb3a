package recipetest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins"
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
	program   *conformance.Program
}

// WithProgram names the finished program that is the recipe as a plugin, and its
// arguments. The default is the test's own program, started again.
func WithProgram(path string, args ...string) Option {
	return func(o *options) { o.program = &conformance.Program{Path: path, Args: args} }
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
	become(t.Name(), r)
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
	program := o.program
	if program == nil {
		program = again(t)
	}
	cfg.Host = hostAgain(t)
	t.Run(string(conformance.InProcess), func(t *testing.T) { run(t, conformance.InProcessSubject(r), cfg) })
	t.Run(string(conformance.Connection), func(t *testing.T) {
		subject, err := conformance.ConnectionSubject(r)
		if err != nil {
			t.Fatal(err)
		}
		run(t, subject, cfg)
	})
	t.Run(string(conformance.Subprocess), func(t *testing.T) {
		subject, err := conformance.ProgramSubject(t.Context(), *program, describe(t, r, o))
		if err != nil {
			t.Fatal(err)
		}
		run(t, subject, cfg)
	})
}

// describe returns what a program that is this one over again says of itself; one
// that was given is asked.
func describe(t *testing.T, r recipe.Recipe, o options) *pluginv1.Description {
	t.Helper()
	if o.program != nil {
		return nil
	}
	d, err := plugins.Describe(r)
	if err != nil {
		t.Fatal(err)
	}
	return d
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
