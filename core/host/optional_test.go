package host_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/structpb"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/core/recipe"
)

// broken stands for a recipe that does not run, and says why.
type broken struct {
	name string
	err  error
}

func (b broken) Info() recipe.Info {
	return recipe.Info{Name: b.name, Version: "1.0.0", Summary: "Does not run", Config: &structpb.Struct{}}
}

func (b broken) Open(context.Context, recipe.Env, grpc.ServiceRegistrar) (recipe.Instance, error) {
	return b, nil
}

func (broken) Close(context.Context) error { return nil }

func (b broken) Report() (recipe.Report, <-chan struct{}) {
	return recipe.Report{State: recipe.StateQuarantined, Detail: b.err.Error(), Subprocess: true}, nil
}

// Whatever is wrong with a recipe that the host can do without, the host starts, with
// everything else as it should be, and says what is wrong.
func TestRecipesThatTheHostCanDoWithout(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		recipe recipe.Recipe
		config string
		want   string // in what is told instead; empty: it runs
		listed bool
	}{
		"a service twice":  {named{name: "also"}, "", "is already registered", true}, // though its name comes first
		"a failed open":    {named{keeper{open: func() error { return errors.New("no luck") }}, "failing"}, "", "no luck", true},
		"a panic":          {named{keeper{open: func() error { panic("no luck") }}, "panicking"}, "", "panic: no luck", true},
		"a bad config":     {tuned{}, `{"histry_off": true}`, "histry_off", true},
		"a name twice":     {named{name: "keeper"}, "", "is given twice", false},
		"the host's name":  {named{name: "host"}, "", "the host's own", false},
		"one that says so": {broken{"sick", errors.New("unwell")}, "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var told error
			cfg := onEtcd()
			own := tt.recipe.Info().Name
			if tt.config != "" {
				cfg.Recipes = map[string]host.RecipeConfig{own: {Config: []byte(tt.config)}}
			}
			h := start(t, cfg, host.WithOptionalRecipe(tt.recipe, func(err error) recipe.Recipe {
				told = err
				return broken{own, err}
			}), host.WithRecipe(keeper{}))
			if (told == nil) != (tt.want == "") || told != nil && !strings.Contains(told.Error(), tt.want) {
				t.Errorf("told %v, want %q", told, tt.want)
			}
			resp, err := hostv1.NewHostServiceClient(native(t, h)).ListRecipes(within(t), &hostv1.ListRecipesRequest{})
			if err != nil {
				t.Fatal(err)
			}
			listed := map[string]*hostv1.Recipe{}
			for _, r := range resp.GetRecipes() {
				listed[r.GetName()] = r
			}
			if r := listed["keeper"]; r.GetState() != hostv1.RecipeState_RECIPE_STATE_READY || len(r.GetServices()) != 1 {
				t.Errorf("the other one: %v", r)
			}
			if r := listed[own]; tt.listed && r.GetState() != hostv1.RecipeState_RECIPE_STATE_QUARANTINED {
				t.Errorf("it is listed as %v", r)
			}
		})
	}
}
