package conformance

import (
	"context"

	"github.com/conclavehq/conclave/core/recipe"
)

// A Carrier is where a recipe runs.
type Carrier string

// The carriers.
const (
	InProcess  Carrier = "inprocess"  // in the host's own process
	Connection Carrier = "connection" // behind a plugin's connection, in the same process
	Subprocess Carrier = "subprocess" // behind a plugin's connection, in a process of its own
)

// A Subject is a recipe in one of the places where it can run.
type Subject struct {
	carrier Carrier
	info    recipe.Info
	run     func(ctx context.Context, s *Suite, with probing) (runner, error)
	again   func(ctx context.Context) (recipe.Info, error) // its description, asked anew
	program *plugged                                       // nil: it is no program
}

// Carrier returns where it runs.
func (s Subject) Carrier() Carrier { return s.carrier }

// Info returns its description.
func (s Subject) Info() recipe.Info { return s.info }

// A runner is the recipe for one host.
type runner interface {
	recipe() recipe.Recipe
	awaitReady(ctx context.Context) error
	faults() faults
	close(ctx context.Context) error
}

// faults are what can be done to a running recipe. What is nil cannot be done
// where it runs.
type faults struct {
	crash  func(ctx context.Context) error // and it is started again
	pause  func() error
	resume func() error
	handed func(ctx context.Context) error // waits until no handler runs
}

// InProcessSubject is a recipe in the host's process.
func InProcessSubject(r recipe.Recipe) Subject {
	return Subject{
		carrier: InProcess, info: r.Info(),
		again: func(context.Context) (recipe.Info, error) { return r.Info(), nil },
		run: func(_ context.Context, _ *Suite, with probing) (runner, error) {
			return local{newProbe(r, with)}, nil
		},
	}
}

// local runs a recipe in the host's process.
type local struct{ probe *probe }

func (l local) recipe() recipe.Recipe          { return l.probe }
func (local) awaitReady(context.Context) error { return nil }
func (l local) faults() faults                 { return faults{handed: l.probe.busy.idle} }
func (local) close(context.Context) error      { return nil }
