package host

import (
	"context"
	"errors"
	"fmt"
	"slices"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/recipe"
)

// Why a recipe is not added or removed while the host runs.
var (
	ErrRecipeExists  = errors.New("the host has a recipe of that name")
	ErrNoRecipe      = errors.New("the host has no recipe of that name")
	ErrRecipeIsOff   = errors.New("the configuration switches the recipe off")
	errReservedOwner = errors.New("the name is the host's own")
)

// AddRecipe opens a recipe while the host runs, and serves it: over gRPC, HTTP,
// in reflection and in the documents. Its configuration is what the host's has
// under its name. The ctx bounds the opening. After an error, which is
// [ErrRecipeExists], [ErrRecipeIsOff], [ErrConfig], [ErrStopped] or the recipe's
// own, nothing has changed.
func (h *Host) AddRecipe(ctx context.Context, r recipe.Recipe) error {
	name := r.Info().Name
	err := h.begin(name)
	if err != nil {
		return fmt.Errorf("recipe %q: %w", name, err)
	}
	defer h.end(name)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(stopped(h.stopping), func() { cancel(ErrStopped) })()
	i, err := h.open(ctx, r)
	if err != nil {
		return err
	}
	if !h.enlist(i) {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeBudget)
		defer cancel()
		return errors.Join(fmt.Errorf("recipe %q: %w", name, ErrStopped), i.close(closing))
	}
	h.parts.status.RecipeChanged(i.describe())
	return nil
}

// begin reserves a name that is to be added.
func (h *Host) begin(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.parts
	has := func(i *instance) bool { return i.info.Name == name }
	switch {
	case p == nil || !p.ready.Load() || p.closing:
		return ErrStopped
	case name == ownName || name == adminName:
		return errReservedOwner
	case p.changing[name] || slices.ContainsFunc(p.instances, has):
		return ErrRecipeExists
	case h.cfg.Recipes[name].Mode == "off":
		return ErrRecipeIsOff
	}
	h.change(name)
	return nil
}

// change marks a name as being added or removed. The caller holds h.mu.
func (h *Host) change(name string) {
	if h.parts.changing == nil {
		h.parts.changing = make(map[string]bool)
	}
	h.parts.changing[name] = true
	h.parts.changes.Add(1)
}

func (h *Host) end(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.parts.changing, name)
	h.parts.changes.Done()
}

// enlist adds an instance to those that the host runs, unless it is stopping.
func (h *Host) enlist(i *instance) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.parts.closing {
		return false
	}
	h.parts.instances = append(h.parts.instances, i)
	return true
}

// RemoveRecipe ends a recipe while the host runs. New calls are refused, calls
// under way go on until ctx ends and are then told to call again; what callers
// own stands. The error is [ErrNoRecipe], [ErrStopped] or that of the recipe's
// Close, after which it is gone all the same.
func (h *Host) RemoveRecipe(ctx context.Context, name string) error {
	i, err := h.take(name)
	if err != nil {
		return fmt.Errorf("recipe %q: %w", name, err)
	}
	defer h.end(name)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(stopped(h.stopping), func() { cancel(ErrStopped) })()
	gone := i.describe()
	gone.State, gone.Message = hostv1.RecipeState_RECIPE_STATE_STOPPED, "it was removed"
	published := i.withdraw()
	if d, ok := i.running.(recipe.Drainer); ok {
		_ = d.Drain(ctx) // who did not end is ended below
	}
	release(ctx, published)
	closing, done := context.WithTimeout(context.WithoutCancel(ctx), cancelBudget)
	defer done()
	err = i.close(closing)
	h.parts.status.RecipeChanged(gone)
	return err
}

// take takes an instance out of those that the host runs.
func (h *Host) take(name string) (*instance, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.parts
	if p == nil || !p.ready.Load() || p.closing {
		return nil, ErrStopped
	}
	for n, i := range p.instances {
		if i.info.Name == name {
			p.instances = slices.Delete(slices.Clone(p.instances), n, n+1)
			h.change(name)
			return i, nil
		}
	}
	return nil, ErrNoRecipe
}

// running returns the instances that the host runs now.
func (h *Host) running() []*instance {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.parts.instances)
}

// takeAll takes all instances out, for the host's end: no other comes in any more.
func (h *Host) takeAll() []*instance {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.parts.instances
	h.parts.instances, h.parts.closing = nil, true
	return all
}

// settled waits until nothing is being added or removed, or ctx ends.
func (h *Host) settled(ctx context.Context) error {
	h.mu.Lock()
	none := len(h.parts.changing) == 0
	h.mu.Unlock()
	if none {
		return nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.parts.changes.Wait()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return errors.New("a recipe was still being added or removed")
	}
}

// drainRecipes lets those recipes that can end their calls in their own way. What is
// left of the time is for the router, which ends the rest.
func drainRecipes(ctx context.Context, all []*instance) {
	ctx, cancel := context.WithTimeout(ctx, drainBudget/2)
	defer cancel()
	done := make(chan struct{}, len(all))
	n := 0
	for _, i := range all {
		if d, ok := i.running.(recipe.Drainer); ok {
			n++
			go func() {
				defer func() { done <- struct{}{} }()
				_ = d.Drain(ctx) // the router ends what it leaves
			}()
		}
	}
	for range n {
		select {
		case <-done:
		case <-ctx.Done():
			return
		}
	}
}
