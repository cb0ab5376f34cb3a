package launcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	pluginv1 "github.com/conclavehq/conclave/api/conclave/plugin/v1"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/internal/router"
)

// An instance is a plugin that a host has open. One goroutine, supervise, decides
// about its process; everything else asks it.
type instance struct {
	plugin  *Plugin
	opening opening
	cfg     Config
	log     *slog.Logger
	asked   chan request
	done    chan struct{} // closed when supervise has ended

	ctx     context.Context // ends when it is closed
	cancel  context.CancelCauseFunc
	hard    context.Context // ends when its end has to be quick
	hurry   context.CancelFunc
	closing sync.WaitGroup // of processes that an upgrade replaced

	// Of supervise alone.
	proxy   *router.Proxy
	history crashes

	mu      sync.Mutex
	spec    *resolved // which supervise alone changes
	report  recipe.Report
	changed chan struct{}
	process *process // that serves; nil: none does
	crash   *Crash
	took    time.Duration
}

// A request asks supervise for another process; a nil spec is the same once more.
type request struct {
	spec  *resolved
	reply chan error
}

var (
	_ recipe.Instance  = (*instance)(nil)
	_ recipe.Reporter  = (*instance)(nil)
	_ recipe.Drainer   = (*instance)(nil)
	_ recipe.Collector = (*instance)(nil)
)

func newInstance(p *Plugin, spec *resolved, env recipe.Env, config []byte, proxy *router.Proxy) *instance {
	i := &instance{plugin: p, spec: spec, proxy: proxy, cfg: p.launcher.cfg, log: env.Log,
		asked: make(chan request), done: make(chan struct{}), changed: make(chan struct{}),
		opening: opening{launcher: p.launcher, out: p.out, env: env, config: config, level: new(slog.LevelVar)},
		history: crashes{cfg: p.launcher.cfg},
		report:  recipe.Report{State: recipe.StateStarting, Since: time.Now(), Version: spec.Version, Summary: spec.Summary, Subprocess: true},
	}
	i.opening.level.Set(lowest(env.Log))
	i.ctx, i.cancel = context.WithCancelCause(context.Background())
	i.hard, i.hurry = context.WithCancel(context.Background())
	return i
}

// lowest returns the lowest level that a logger takes.
func lowest(log *slog.Logger) slog.Level {
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
		if log.Enabled(context.Background(), l) {
			return l
		}
	}
	return slog.LevelError
}

// Report implements recipe.Reporter.
func (i *instance) Report() (recipe.Report, <-chan struct{}) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.report, i.changed
}

// become changes the state, and tells who waits for that.
func (i *instance) become(s recipe.State, format string, args ...any) {
	detail := fmt.Sprintf(format, args...)
	i.mu.Lock()
	if i.report.State == s && i.report.Detail == detail && i.report.Version == i.spec.Version {
		i.mu.Unlock()
		return
	}
	if i.report.State != s {
		i.report.Since = time.Now()
	}
	i.report.State, i.report.Detail = s, detail
	version := i.spec.Version
	i.report.Version, i.report.Summary = version, i.spec.Summary
	close(i.changed)
	i.changed = make(chan struct{})
	i.mu.Unlock()
	i.log.Log(context.Background(), loudness(s), "plugin "+s.String(), "version", version, "why", detail)
}

// loudness is the level at which a state is logged.
func loudness(s recipe.State) slog.Level {
	switch s {
	case recipe.StateQuarantined:
		return slog.LevelError
	case recipe.StateDegraded, recipe.StateBackoff:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}

// status is the whole of what is known.
func (i *instance) status() Status {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := Status{Name: i.opening.env.Instance, Version: i.report.Version, Summary: i.report.Summary, State: i.report.State,
		Detail: i.report.Detail, Since: i.report.Since, Restarts: i.report.Restarts, Started: i.took, Crash: i.crash}
	if i.process != nil {
		s.PID = i.process.pid()
	}
	return s
}

// serving returns the process that serves, or nil.
func (i *instance) serving() *process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.process
}

// ask asks supervise for another process, and waits until it serves.
func (i *instance) ask(ctx context.Context, spec *resolved) error {
	r := request{spec, make(chan error, 1)}
	select {
	case i.asked <- r:
	case <-i.ctx.Done():
		return context.Cause(i.ctx)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case err := <-r.reply:
		return err
	case <-ctx.Done():
		return context.Cause(ctx) // it goes on
	}
}

// errClosing is why an instance ends.
var errClosing = errors.New("the plugin is being closed")

// Drain implements recipe.Drainer: the process ends its calls itself, because it
// alone can tell a caller who has gone from a host that stops, and leaves the
// places of those who wait.
func (i *instance) Drain(ctx context.Context) error {
	p := i.serving()
	if p == nil {
		return nil
	}
	i.become(recipe.StateDraining, "")
	_, err := p.control.Drain(ctx, drainUntil(ctx))
	return plain(err)
}

// Close implements recipe.Instance.
func (i *instance) Close(ctx context.Context) error {
	i.cancel(errClosing)
	defer context.AfterFunc(ctx, i.hurry)()
	<-i.done
	i.closing.Wait()
	i.hurry()
	i.plugin.closed(i)
	i.plugin.launcher.dismiss(i)
	return nil
}

// Collect implements recipe.Collector.
func (i *instance) Collect(ctx context.Context) ([]*dto.MetricFamily, error) {
	p := i.serving()
	if p == nil {
		return nil, nil
	}
	resp, err := p.control.Collect(ctx, &pluginv1.CollectRequest{})
	if err != nil {
		return nil, plain(err)
	}
	var all []*dto.MetricFamily
	for _, b := range resp.GetFamilies() {
		f := new(dto.MetricFamily)
		if err := proto.Unmarshal(b, f); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
		all = append(all, f)
	}
	return all, nil
}

// setLevel changes the level of the process, and of those that follow.
func (i *instance) setLevel(ctx context.Context, level slog.Level) error {
	i.opening.level.Set(level)
	p := i.serving()
	if p == nil {
		return nil
	}
	_, err := p.control.SetLogLevel(ctx, &pluginv1.SetLogLevelRequest{Level: levelName(level)})
	return plain(err)
}
