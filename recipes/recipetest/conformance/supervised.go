package conformance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/plugins/launcher"
)

// tireless is the configuration of a launcher whose plugins are killed often.
func tireless(log *slog.Logger) launcher.Config {
	return launcher.Config{Log: log, Quarantine: launcher.Quarantine{Crashes: 1000, Within: time.Second}, Backoff: 10 * time.Millisecond}
}

// supervised is a plugin in a process of its own, for one host.
type supervised struct {
	launcher *launcher.Launcher
	plugin   *launcher.Plugin
	attached bool // it has no process of its own

	mu   sync.Mutex
	open recipe.Reporter // the instance that the host opened last
}

// recipe implements runner: a plugin whose instance is kept.
func (v *supervised) recipe() recipe.Recipe { return kept{v.plugin, v} }

type kept struct {
	*launcher.Plugin

	by *supervised
}

// Open implements recipe.Recipe.
func (k kept) Open(ctx context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	i, err := k.Plugin.Open(ctx, env, reg)
	if r, ok := i.(recipe.Reporter); ok && err == nil {
		k.by.mu.Lock()
		defer k.by.mu.Unlock()
		k.by.open = r
	}
	return i, err
}

// A mark tells one start of a plugin from the next.
type mark struct {
	pid  int
	took time.Duration
}

func (v *supervised) mark() mark {
	s := v.plugin.Status()
	return mark{s.PID, s.Started}
}

// awaitReady waits until the plugin serves.
func (v *supervised) awaitReady(ctx context.Context) error { return v.await(ctx, mark{}) }

// await waits until a start of the plugin serves that is not this one.
func (v *supervised) await(ctx context.Context, but mark) error {
	v.mu.Lock()
	open := v.open
	v.mu.Unlock()
	if open == nil {
		return errors.New("no host has opened it")
	}
	began := v.plugin.Status().Restarts
	for {
		report, changed := open.Report()
		status, is := v.plugin.Status(), v.mark()
		switch {
		case report.State == recipe.StateReady && is != but && (v.attached || is.pid != 0):
			return nil
		case report.State == recipe.StateQuarantined || report.State == recipe.StateStopped || status.Restarts > began+starts:
			return fmt.Errorf("it is %v: %s%s", report.State, report.Detail, lastWords(status))
		}
		look := time.NewTimer(lookAgain) // a start that follows at once changes no state
		select {
		case <-changed:
		case <-look.C:
		case <-ctx.Done():
			look.Stop()
			return fmt.Errorf("it is %v: %s%s: %w", report.State, report.Detail, lastWords(status), ctx.Err())
		}
		look.Stop()
	}
}

// starts is how often a plugin may fail to start in a row.
const starts = 5

// lookAgain is the time between two looks at a plugin that is being started.
const lookAgain = 5 * time.Millisecond

func lastWords(s launcher.Status) string {
	if s.Crash == nil || s.Crash.Output == "" {
		return ""
	}
	text := oneLine(s.Crash.Output)
	return "; it wrote " + text[max(0, len(text)-500):]
}

// faults implements runner.
func (v *supervised) faults() faults {
	return faults{
		crash: func(ctx context.Context) error {
			before := v.mark()
			if err := signal(before.pid, kill); err != nil {
				return err
			}
			return v.await(ctx, before)
		},
		pause:  func() error { return signal(v.plugin.Status().PID, pause) },
		resume: func() error { return signal(v.plugin.Status().PID, resume) },
	}
}

// close implements runner.
func (v *supervised) close(ctx context.Context) error { return v.launcher.Close(ctx) }
