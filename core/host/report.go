package host

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

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

// How instances are asked whether they are well.
const (
	checkEvery   = 10 * time.Second
	checkTimeout = 3 * time.Second
)

// follow tells watchers of every change that the instance reports, or that asking it
// brings to light, until it is closed.
func (h *Host) follow(i *instance) {
	ctx, stop := context.WithCancel(context.Background())
	i.stop = stop
	if told, ok := i.running.(recipe.Reporter); ok {
		h.hear(ctx, i, told)
	} else if c, ok := i.running.(recipe.Checker); ok {
		i.watched.Go(func() { h.check(ctx, i, c) })
	}
}

// check asks an instance again and again whether it is well.
func (h *Host) check(ctx context.Context, i *instance, c recipe.Checker) {
	tick := time.NewTicker(h.opts.checkEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if i.note(i.sick(ctx, c)) {
			h.parts.status.RecipeChanged(i.describe())
		}
	}
}

// errSilent says that a recipe does not answer its host.
var errSilent = errors.New("it does not answer")

// ask asks a recipe something, and waits no longer than it may: one that panics or
// heeds no context holds up nobody. As long as it has not returned, it is not asked
// again.
func ask[T any](ctx context.Context, busy *atomic.Bool, question func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	if !busy.CompareAndSwap(false, true) {
		return *new(T), errSilent
	}
	answered := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("panic: %v", p)
			}
			busy.Store(false)
			answered <- a
		}()
		a.value, a.err = question()
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		return *new(T), errSilent
	}
}

// sick says what is wrong with an instance, or "".
func (i *instance) sick(ctx context.Context, c recipe.Checker) string {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if _, err := ask(ctx, &i.checking, func() (any, error) { return nil, c.Check(ctx) }); err != nil {
		return err.Error()
	}
	return ""
}

// note keeps what is wrong, and says whether that is news.
func (i *instance) note(what string) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	news := i.ill != what
	if news {
		i.ill, i.illAt = what, time.Now()
	}
	return news
}

// hear tells watchers of every change that an instance reports.
func (h *Host) hear(ctx context.Context, i *instance, told recipe.Reporter) {
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
