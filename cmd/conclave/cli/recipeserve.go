package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins"
	"github.com/conclavehq/conclave/plugins/launcher"
	"github.com/conclavehq/conclave/recipes/discovery"
)

// roleRecipe is the hidden role in which this binary is one of its own recipes, in
// a process that a host has started.
const roleRecipe = "__recipe"

// serveRecipe serves a standard recipe to the host that started this process. It
// returns only if there is none of that name.
func serveRecipe(stderr io.Writer, args []string) int {
	for _, r := range standard(nil) {
		if len(args) > 0 && r.Info().Name == args[0] {
			plugins.Serve(r)
		}
	}
	_, _ = fmt.Fprintln(stderr, "this is for hosts, which start their recipes with it") // there is nobody else to tell
	return ExitUsage
}

// subprocessRecipes puts plugins in the place of those recipes that the
// configuration wants in a process of their own, which is this binary again.
func subprocessRecipes(cfg host.Config, l *launcher.Launcher, all []recipe.Recipe) ([]recipe.Recipe, error) {
	recipes := make([]recipe.Recipe, len(all))
	for i, r := range all {
		recipes[i] = r
		name := r.Info().Name
		if cfg.Recipes[name].Mode != host.Subprocess {
			continue
		}
		p, err := ownPlugin(l, r)
		if err != nil {
			return nil, fmt.Errorf("recipes.%s.mode: %w", name, err)
		}
		recipes[i] = apart{p, r}
		if d, ok := r.(discovery.Recipe); ok && d.Directory != nil {
			recipes[i] = accompanied{apart{p, r}, d}
		}
	}
	return recipes, nil
}

// ownPlugin is a standard recipe as a plugin.
func ownPlugin(l *launcher.Launcher, r recipe.Recipe) (*launcher.Plugin, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	about, err := plugins.Describe(r)
	if err != nil {
		return nil, err
	}
	return l.Plugin(launcher.Spec{
		Name: about.GetName(), Version: about.GetVersion(), Summary: about.GetSummary(), Path: self, Args: []string{roleRecipe, about.GetName()},
		Descriptors: about.GetDescriptors(), Services: about.GetServices(), Config: about.GetConfig(),
	})
}

// apart is a standard recipe in a process of its own. What its configuration may be
// this process knows as well.
type apart struct {
	*launcher.Plugin

	inner recipe.Recipe
}

// Info implements recipe.Recipe.
func (a apart) Info() recipe.Info { return a.inner.Info() }

// Validate implements recipe.Validator, so that a mistake is told before a process
// is started.
func (a apart) Validate(config proto.Message) error {
	if v, ok := a.inner.(recipe.Validator); ok {
		return v.Validate(config)
	}
	return nil
}

// accompanied is the discovery recipe in a process of its own, with its directory
// in the host's: what Prometheus asks is answered here, from the same keys.
type accompanied struct {
	apart

	directory discovery.Recipe
}

// Open implements recipe.Recipe.
func (a accompanied) Open(ctx context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	i, err := a.apart.Open(ctx, env, reg)
	if err != nil {
		return nil, err
	}
	beside := env
	beside.Config = nil // the other process answers DNS
	directory, err := a.directory.Open(ctx, beside, unserved{})
	if err != nil {
		return nil, errors.Join(err, i.Close(ctx))
	}
	known, ok := i.(supervised)
	if !ok {
		return nil, errors.Join(errors.New("a plugin's instance reports nothing"), directory.Close(ctx), i.Close(ctx))
	}
	return together{known, directory}, nil
}

// unserved is a registrar that serves nothing.
type unserved struct{}

// RegisterService implements grpc.ServiceRegistrar.
func (unserved) RegisterService(*grpc.ServiceDesc, any) {}

// supervised is what a plugin's instance is.
type supervised interface {
	recipe.Instance
	recipe.Reporter
	recipe.Drainer
	recipe.Collector
}

// together is an instance that ends with another.
type together struct {
	supervised

	other recipe.Instance
}

// Close implements recipe.Instance.
func (t together) Close(ctx context.Context) error {
	return errors.Join(t.other.Close(ctx), t.supervised.Close(ctx))
}
