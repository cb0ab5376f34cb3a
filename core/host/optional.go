package host

import (
	"context"

	"github.com/conclavehq/conclave/core/recipe"
)

// WithOptionalRecipe adds a recipe that the host can do without. When it cannot be
// configured, opened or served, the recipe that instead returns for the error takes
// its place, such as one that does nothing but to report why. It is opened after the
// recipes of WithRecipe, and must not have the name of one of them: then it is left
// out, and instead is told so too. instead is called at most once, and by New or
// Start.
func WithOptionalRecipe(r recipe.Recipe, instead func(err error) recipe.Recipe) Option {
	return func(o *options) { o.recipes = append(o.recipes, optional{r, instead}) }
}

// An optional is a recipe that the host can do without.
type optional struct {
	recipe.Recipe

	instead func(error) recipe.Recipe
}

// plain returns the recipe itself.
func plain(r recipe.Recipe) recipe.Recipe {
	if o, ok := r.(optional); ok {
		return o.Recipe
	}
	return r
}

// byRank orders what the host can do without behind what it cannot.
func byRank(a, b recipe.Recipe) int {
	_, first := a.(optional)
	_, second := b.(optional)
	switch {
	case first == second:
		return 0
	case first:
		return 1
	}
	return -1
}

// leaveOut does without a recipe, if that can be; else it returns the error.
func (h *Host) leaveOut(r recipe.Recipe, err error) error {
	o, ok := r.(optional)
	if !ok {
		return err
	}
	h.log.Error("a recipe is left out", "recipe", r.Info().Name, "error", err)
	o.instead(err)
	return nil
}

// substitute returns what takes the place of a recipe that cannot be configured, if
// something may.
func (h *Host) substitute(r recipe.Recipe, err error) (recipe.Recipe, error) {
	o, ok := r.(optional)
	if !ok {
		return nil, err
	}
	h.log.Error("a recipe does not run", "recipe", r.Info().Name, "error", err)
	return o.instead(err), nil
}

// open opens a recipe on its own part of etcd and serves it, or what takes its place.
func (h *Host) open(ctx context.Context, r recipe.Recipe) (*instance, error) {
	i, err := h.openOne(ctx, plain(r))
	if err == nil || ctx.Err() != nil {
		return i, err
	}
	other, err := h.substitute(r, err)
	if err != nil {
		return nil, err
	}
	return h.openOne(ctx, other)
}
