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

// awaitReady waits until the process serves.
func (v *supervised) awaitReady(ctx context.Context) error { return v.await(ctx, 0) }

// await waits until a process serves that is not the one of this number.
func (v *supervised) await(ctx context.Context, but int) error {
	v.mu.Lock()
	open := v.open
	v.mu.Unlock()
	if open == nil {
		return errors.New("no host has opened it")
	}
	for {
		report, changed := open.Report()
		status := v.plugin.Status()
		switch {
		case report.State == recipe.StateReady && status.PID != 0 && status.PID != but:
			return nil
		case report.State == recipe.StateQuarantined || report.State == recipe.StateStopped:
			return fmt.Errorf("it is %v: %s%s", report.State, report.Detail, lastWords(status))
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("it is %v: %s%s: %w", report.State, report.Detail, lastWords(status), ctx.Err())
		}
	}
}

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
			pid := v.plugin.Status().PID
			if err := signal(pid, kill); err != nil {
				return err
			}
			return v.await(ctx, pid)
		},
		pause:  func() error { return signal(v.plugin.Status().PID, pause) },
		resume: func() error { return signal(v.plugin.Status().PID, resume) },
	}
}

// close implements runner.
func (v *supervised) close(ctx context.Context) error { return v.launcher.Close(ctx) }
