package host

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	hostv1 "github.com/conclavehq/conclave/api/conclave/host/v1"
	"github.com/conclavehq/conclave/core/recipe"
)

// addReport adds what an instance says of itself to what the host knows.
func addReport(r *hostv1.Recipe, now recipe.Report) {
	r.State, r.Message, r.Restarts = stateOf(now.State), now.Detail, now.Restarts
	if !now.Since.IsZero() {
		r.Since = timestamppb.New(now.Since)
	}
	if now.Subprocess {
		r.Mode = hostv1.RecipeMode_RECIPE_MODE_SUBPROCESS
	}
	if now.Version != "" {
		r.Version = now.Version
	}
	if now.Summary != "" {
		r.Summary = now.Summary
	}
}

func stateOf(s recipe.State) hostv1.RecipeState {
	states := map[recipe.State]hostv1.RecipeState{
		recipe.StateReady: hostv1.RecipeState_RECIPE_STATE_READY, recipe.StateStarting: hostv1.RecipeState_RECIPE_STATE_STARTING,
		recipe.StateDegraded: hostv1.RecipeState_RECIPE_STATE_DEGRADED, recipe.StateBackoff: hostv1.RecipeState_RECIPE_STATE_BACKOFF,
		recipe.StateQuarantined: hostv1.RecipeState_RECIPE_STATE_QUARANTINED, recipe.StateDraining: hostv1.RecipeState_RECIPE_STATE_DRAINING,
		recipe.StateStopped: hostv1.RecipeState_RECIPE_STATE_STOPPED,
	}
	return states[s]
}

// follow tells watchers of every change that the instance reports, until it is
// closed.
func (h *Host) follow(i *instance) {
	told, ok := i.running.(recipe.Reporter)
	if !ok {
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	i.stop = stop
	_, changed := told.Report()
	i.watched.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			_, changed = told.Report() // before it is told: what changes meanwhile is told again
			h.parts.status.RecipeChanged(i.describe())
		}
	})
}
